"""
Fault 21: a reload applies every setting, or names it with what would apply it.
"""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent

from stickyd import service as service_module
from stickyd.affinity.token import Signer
from stickyd.fleet.process.spawner import spec_of
from stickyd.service import StickyService
from stickyd.settings.consistency import _OF_ONE_KIND
from stickyd.settings.reload import FIXED
from stickyd.settings.settings import Settings, rules
from stickyd.settings.values import spelt
from stickyd.testing import FakeSpawner
from tests.reactors import private_reactor, turn_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from twisted.internet.epollreactor import EPollReactor

    from stickyd.fleet.process.spec import WorkerSpec

SECRET = "a secret that stands in a file"

ASGI: dict[str, object] = {"asgi": "tests.system.apps:asgi_site"}
WSGI: dict[str, object] = {"wsgi": "tests.system.frameworks.flask_app:app"}
#: An application of each kind, for the settings that only one understands.
APPLICATIONS: dict[str, dict[str, object]] = {
    "--asgi": ASGI,
    "--wsgi": WSGI,
    "--static": {"static": "tests"},
}
RESOURCE = "tests.system.apps:site"
COOKIE: dict[str, object] = {"affinity": "cookie:stickyd,ip"}
LEAST: dict[str, object] = {"placement": "least"}
BY_CLIENT: dict[str, object] = {"reload_mode": "client"}
TRUST: dict[str, object] = {"trust": "10.0.0.0/8"}
SQLITE: dict[str, object] = {"sessions": "sqlite:sessions"}
ADMIN: dict[str, object] = {"admin": "0"}

#: Another value of each setting, and what else it needs beside it.
OTHER: dict[str, tuple[object, dict[str, object]]] = {
    "listen": (["tcp:0:interface=127.0.0.2"], {}),
    "workers": (3, {}),
    "resource": (RESOURCE, {}),
    "asgi": ("tests.system.apps:asgi_site", {}),
    "asgi_factory": ("tests.system.apps:make_asgi_site", {}),
    "wsgi": ("tests.system.frameworks.flask_app:app", {}),
    "wsgi_factory": ("tests.worker.test_application:make_wsgi", {}),
    "static": ("tests", {}),
    "protocol": ("tests.system.apps:echo", {}),
    "root_path": ("/shop", ASGI),
    "affinity": (["ip/24/56"], {}),
    "secret_file": ("secret", COOKIE),
    "node": ("web1", {}),
    "bus": ("redis://127.0.0.1:9", {}),
    "asgi_sessions": ("on", ASGI),
    "cookie_path": ("/shop", COOKIE),
    "cookie_domain": ("example.org", COOKIE),
    "cookie_samesite": ("strict", COOKIE),
    "cookie_secure": ("always", COOKIE),
    "cookie_max_age": (60, COOKIE),
    "session_cookie": ("shop", {"resource": RESOURCE}),
    "trust": (["10.0.0.0/8"], {}),
    "proxy_protocol": ("on", TRUST),
    "sniff_overflow": ("close", {}),
    "placement": ("modulo", {}),
    "stick_limit": (10, LEAST),
    "stick_timeout": (10.0, LEAST),
    "steering": ("auto", {}),
    "worker_reactor": ("asyncio", {}),
    "overflow": ("reset", {}),
    "http2": ("off", {}),
    "access_log": ("-", {}),
    "access_log_format": ("json", {"access_log": "-"}),
    "control": ("control.sock", {}),
    "admin": ("0", {}),
    "admin_public": ("on", ADMIN),
    "admin_host": (["ops.example"], ADMIN),
    "admin_token_file": ("token", ADMIN),
    "agent_check": ("0", {}),
    "lame_duck": (0.1, ADMIN),
    "ready_slots": (1, ADMIN),
    "uid": (str(os.getuid()), {}),
    "generation_name": ("1.4.2", {}),
    "generation_header": ("X-Generation", {}),
    "client_idle": (60.0, BY_CLIENT),
    "known_limit": (10, BY_CLIENT),
    "max_leaving_memory": (10, BY_CLIENT),
    "sessions": ("sqlite:sessions", {}),
    "session_grace": (20.0, SQLITE),
    "session_cache": ("off", SQLITE),
    "session_key_file": ("secret", SQLITE),
    "gid": (str(os.getgid()), {}),
}

#: What the primary itself reads of those that a reload applies, and where it shows that it
#: has followed.  The workers are told all settings.
LIVE: dict[str, Callable[[StickyService, WorkerSpec], object]] = {
    "overflow": lambda service, _: service._refusal.answer,
    "crash_limit": lambda service, _: service._limits.crashes,
    "drain_timeout": lambda service, _: service._limits.drain_seconds,
    "max_leaving": lambda service, _: service._limits.leaving,
    "reload_mode": lambda service, _: "client" if service._limits.by_client else "connection",
    "known_limit": lambda service, _: service.fleet.table.keepers.most,
    "max_leaving_memory": lambda service, _: service._limits.leaving_bytes // 2**20,
    "stop_timeout": lambda service, _: service.settings.stop_timeout,
    "lame_duck": lambda service, _: service.settings.lame_duck,
    "ready_slots": lambda service, _: service.settings.ready_slots,
    "ready_store": lambda service, _: service.settings.ready_store,
    "worker_reactor": lambda _, spec: spec.command[-1],
    # As whom we are ourselves, nobody has to be told.
    "uid": lambda _, spec: str(os.getuid() if spec.uid is None else spec.uid),
    "gid": lambda _, spec: str(os.getgid() if spec.gid is None else spec.gid),
    "secret_file": lambda service, _: _is_signer_of(SECRET, service._signer) and "secret",
    "session_key_file": lambda _, spec: spec.session_keys == (SECRET.encode(),) and "secret",
    # Only what is refused how follows from these (below), and a notice.
    "tls": lambda _, spec: spec.settings.tls,
    "protocol": lambda _, spec: spec.settings.protocol,
    "http2": lambda _, spec: spec.settings.http2,
}


def _is_signer_of(secret: str, signer: Signer | None) -> bool:
    other = Signer([secret.encode()])
    return signer is not None and signer.slot_of(other.mint(1).encode()) == 1


class Spawner(FakeSpawner):
    """
    Keeps what workers are started with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spec = spec_of(Settings(), ())

    def verify_also(self, secrets: Sequence[bytes]) -> list[Deferred[None]]:
        """
        Tell spares of secrets; there are none.
        """
        return []

    def replenish(self) -> None:
        """
        Have spares.
        """

    def run_as(self, uid: int | None, gid: int | None) -> None:
        """
        Start the next workers as somebody.
        """

    def renew(self, spec: WorkerSpec) -> None:
        """
        Start the next workers with this.
        """
        self.spec = spec

    def stop(self) -> Deferred[None]:
        """
        Have no spares any more.
        """
        return succeed(None)


class Recording(Settings):
    """
    Settings that note which of them were read.
    """

    def __getattribute__(self, name: str) -> Any:
        READ.add(name)
        return super().__getattribute__(name)


READ: set[str] = set()


class Server:
    """
    A service whose workers are none.
    """

    def __init__(self, reactor: EPollReactor, spawner: Spawner, given: dict[str, object]) -> None:
        self.reactor = reactor
        self.spawner = spawner
        self.given = {"listen": "tcp:0:interface=127.0.0.1", "workers": 1, **given}
        settings = Recording.read(self.given)
        READ.clear()
        self.service = StickyService(settings, reactor)
        self.service.startService()
        reactor.iterate(0)
        self.spawner.workers[-1].ready()

    def reload(self, **changed: object) -> list[str]:
        """
        Reload with some settings changed.

        :return: what the log says.
        """
        outcome: list[list[str]] = []
        with capturedLogs() as logged:
            self.service.operations.reload(Settings.read({**self.given, **changed})).addCallback(
                outcome.append
            )
            turn_until(self.reactor, lambda: outcome or len(self.spawner.workers) > 1)
            if not outcome:
                self.spawner.workers[-1].ready()
                self.spawner.workers[0].releases[-1][1].callback(None)
            turn_until(self.reactor, lambda: outcome)
        assert outcome == [[]]
        return [formatEvent(event) for event in logged]

    def end(self) -> None:
        """
        Stop it.
        """
        stopped: list[None] = []
        self.service.stopService().addCallback(stopped.append)
        if self.service.settings.lame_duck:
            self.service.stop_at_once()
        for worker in self.spawner.workers:
            if worker.stopped:
                worker.died("exited with code 0")
        turn_until(self.reactor, lambda: stopped)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """
    Starts one, in a directory of its own.
    """
    servers: list[Server] = []
    spawner = Spawner()
    monkeypatch.setattr(service_module, "Spawner", lambda *_: spawner)
    monkeypatch.chdir(tmp_path)
    root = Path(__file__).parents[2]
    (tmp_path / "tests").symlink_to(root / "tests")
    monkeypatch.setenv("PYTHONPATH", str(root))
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    with private_reactor() as reactor:
        # Which a reactor does that runs.
        reactor.getThreadPool().start()

        def start(given: dict[str, object]) -> Server:
            servers.append(Server(reactor, spawner, given))
            return servers[-1]

        yield start
        for server in servers:
            server.end()
        reactor.getThreadPool().stop()


def other_of(name: str) -> tuple[object, dict[str, object]]:
    """
    Another value of a setting, with what else it needs.
    """
    if name in OTHER:
        return OTHER[name]
    rule, default = rules()[spelt(name)]
    kinds = _OF_ONE_KIND.get(name, ("the demonstration",))
    given = {} if "the demonstration" in kinds else APPLICATIONS[kinds[0]]
    if rule.choices:
        return next(choice for choice in rule.choices if choice != default), given
    assert isinstance(default, (int, float)), f"{name}: write another value of it above"
    return (type(default)(default + 1), given)


#: What is not tried here: a store on a server would have to be there.
ELSEWHERE = ("tls", "session_away", "ready_store")


@pytest.mark.parametrize("name", [f.name for f in fields(Settings) if f.name not in ELSEWHERE])
def test_fault_21_every_setting_is_applied_or_named(
    name: str, start: Callable[..., Server]
) -> None:
    """
    Fault 21: what a reload does not apply is named, with what does; the rest has reached the
    workers, and whoever reads it in the primary.
    """
    value, given = other_of(name)
    server = start(given)
    before = getattr(server.service.settings, name)
    logged = server.reload(**{name: value})
    now = getattr(server.service.settings, name)
    if name in FIXED:
        assert f"{name} cannot change at a reload; {FIXED[name]} to change it" in logged
        assert now == before
        return
    assert not any("cannot change" in line for line in logged)
    assert now == (tuple(value) if isinstance(value, list) else value) != before
    assert getattr(server.spawner.spec.settings, name) == now
    if name in LIVE:
        assert LIVE[name](server.service, server.spawner.spec) == now


def test_fault_21_nothing_else_is_read_by_the_primary(start: Callable[..., Server]) -> None:
    """
    Fault 21: what the primary reads of its settings cannot change, or is tried above.
    """
    for given in ({}, COOKIE, {"protocol": "tests.system.apps:echo"}):
        server = start(given)
        server.end()
        server.spawner.workers.clear()
        names = {f.name for f in fields(Settings)}
        applications = {"resource", "asgi", "asgi_factory", "wsgi", "wsgi_factory", "static"}
        assert READ & names <= {*FIXED, *LIVE, *applications}


def test_fault_21_how_newcomers_are_refused_follows_the_application(
    start: Callable[..., Server],
) -> None:
    """
    Fault 21: where an application of another kind is served, nobody gets an answer that its
    clients cannot read.
    """
    server = start({})
    before = server.service._refusal.answer
    server.reload(protocol="tests.system.apps:echo")
    assert (before, server.service._refusal.answer) == ("503", "close")


def test_fault_21_what_stays_may_make_the_rest_mean_nothing(start: Callable[..., Server]) -> None:
    """
    Fault 21: a reload that cannot be is told like any other, and changes nothing.
    """
    server = start({})
    outcome: list[list[str]] = []
    wanted = Settings.read({**server.given, **COOKIE, "cookie_path": "/shop"})
    with capturedLogs() as logged:
        server.service.operations.reload(wanted).addCallback(outcome.append)
    texts = [formatEvent(event) for event in logged]
    assert "affinity cannot change at a reload; upgrade to change it" in texts
    assert outcome[0][0].startswith("--cookie-path means nothing without a cookie")
    assert server.service.settings.cookie_path == "/"
