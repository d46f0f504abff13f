"""
The systems that can be compared, and how each is started.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.fronts import haproxy_config, nginx_config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SYSTEMS = HERE / "systems"

STICKYD = (
    "{twistd} -n --pidfile= stickyd --listen tcp:{port}:interface=127.0.0.1 --workers {workers}"
)

COOKIE = "stickyd"

STEERING = ("stickyd", "stickyd-cookie", "stickyd-kernel", "unrouted", "node-sticky")
"""
What :mod:`benchmarks.steering` measures.
"""

REHOMING = ("nginx-stickyd", "nginx-stickyd-cookie", "nginx-hash", "nginx-nginx-hash")
"""
What :mod:`benchmarks.rehoming` measures.
"""

WSGI = ("stickyd-wsgi", "gunicorn-threads", "granian-wsgi", "waitress", "stickyd")
"""
What :mod:`benchmarks.wsgi` measures.
"""

ASGI = ("stickyd-asgi", "stickyd-asgi-kernel", "uvicorn", "granian", "gunicorn-asgi")
"""
What :mod:`benchmarks.asgi` measures.
"""

STARTING = ("stickyd", "stickyd-asgi", "stickyd-wsgi", "uvicorn", "gunicorn-threads", "granian")
"""
What :mod:`benchmarks.starting` measures.
"""

SESSIONS = ("no-session", "memory-read", "memory-change", "sqlite-read", "sqlite-change")
"""
What :mod:`benchmarks.sessions` measures.
"""

SESSION_COOKIE = "TWISTED_SESSION"

Role = Literal["primary", "proxy", "worker"]
"""
``primary``: the process is the front, what descends from it are workers.  ``proxy``: all of
them are the front.  ``worker``: all of them are workers.
"""


@dataclass(frozen=True)
class Launch:
    """
    One command to start, and the port that must accept before the next one starts.
    """

    role: Role
    command: list[str]
    port: int
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """
    What a system is started with.
    """

    port: int
    more_ports: Callable[[], int]
    workers: int
    directory: Path
    floor: Path
    peers: Path | None

    def fill(self, template: str) -> list[str]:
        """
        Split a command line and put our values in for ``{port}`` and the like.
        """
        twistd = Path(sys.executable).with_name("twistd")
        values = {
            "{port}": str(self.port),
            "{workers}": str(self.workers),
            "{python}": sys.executable,
            "{twistd}": str(twistd) if twistd.exists() else "twistd",
            "{peers}": str(self.peers),
            "{directory}": str(self.directory),
        }
        words = shlex.split(template)
        for name, value in values.items():
            words = [word.replace(name, value) for word in words]
        return words


Plan = Callable[[Setting], Iterator[Launch]]


@dataclass(frozen=True)
class System:
    """
    A server, or a proxy with servers behind it.
    """

    name: str
    plan: Plan
    programs: tuple[str, ...] = ()
    from_peers: bool = False
    cookie: str = ""
    """
    The cookie that its clients keep.
    """

    def missing(self) -> list[str]:
        """
        The programs that this machine lacks.
        """
        return [program for program in self.programs if shutil.which(program) is None]


def command_system(name: str, template: str, from_peers: bool = False, cookie: str = "") -> System:
    """
    A system that is one command: the process is its front, its descendants are workers.
    """

    def plan(setting: Setting) -> Iterator[Launch]:
        yield Launch("primary", setting.fill(template), setting.port)

    return System(name, plan, from_peers=from_peers, cookie=cookie)


def _session_systems(stickyd: str) -> list[System]:
    pages = f"{stickyd} --resource benchmarks.systems.session_pages:"
    stores = {"memory": "memory", "sqlite": "sqlite:{directory}/sqlite-"}
    systems = [command_system("no-session", f"{pages}none")]
    for store, url in stores.items():
        for use in ("read", "change"):
            sessions = url + use if store == "sqlite" else url
            command = f"{pages}{use} --sessions {sessions}"
            systems.append(command_system(f"{store}-{use}", command, cookie=SESSION_COOKIE))
    return systems


def _node(script: str, setting: Setting, port: int, workers: int, behind: bool = False) -> Launch:
    role: Role = "primary" if workers > 1 else "worker"
    environment = {
        "PORT": str(port),
        "WORKERS": str(workers),
        "TRUST_FORWARDED": str(int(behind)),
        "NODE_ENV": "production",
    }
    return Launch(role, ["node", str(SYSTEMS / script)], port, environment)


def _twisted(port: int, behind: bool = False) -> Launch:
    environment = {"PORT": str(port), "TRUST_FORWARDED": str(int(behind))}
    command = [sys.executable, str(SYSTEMS / "twisted_stock.py")]
    return Launch("worker", command, port, environment)


def _unrouted(port: int, behind: bool = False) -> Launch:
    environment = {"PORT": str(port), "TRUST_FORWARDED": str(int(behind))}
    command = [sys.executable, str(SYSTEMS / "unrouted.py")]
    return Launch("worker", command, port, environment)


def _unrouted_workers(setting: Setting) -> Iterator[Launch]:
    for _ in range(setting.workers):
        yield _unrouted(setting.port)


def _node_sticky(setting: Setting) -> Iterator[Launch]:
    yield _node("node_sticky.js", setting, setting.port, setting.workers)


def _node_cluster(setting: Setting) -> Iterator[Launch]:
    yield _node("node_http.js", setting, setting.port, setting.workers)


def _node_one(setting: Setting) -> Iterator[Launch]:
    yield _node("node_http.js", setting, setting.port, 1)


def _twisted_one(setting: Setting) -> Iterator[Launch]:
    yield _twisted(setting.port)


def _twisted_reuseport(setting: Setting) -> Iterator[Launch]:
    for _ in range(setting.workers):
        yield _twisted(setting.port)


def _floor(setting: Setting) -> Iterator[Launch]:
    command = [str(setting.floor), str(setting.port), str(setting.workers)]
    yield Launch("primary", command, setting.port)


def _behind(front: Literal["nginx", "haproxy"], backend: Literal["node", "twisted"]) -> Plan:
    def plan(setting: Setting) -> Iterator[Launch]:
        ports = [setting.more_ports() for _ in range(setting.workers)]
        for port in ports:
            if backend == "node":
                yield _node("node_http.js", setting, port, 1, behind=True)
            else:
                yield _twisted(port, behind=True)
        if front == "nginx":
            yield _nginx(setting, setting.port, ports)
            return
        config = setting.directory / "haproxy.conf"
        config.write_text(haproxy_config(setting.port, ports))
        yield Launch("proxy", ["haproxy", "-db", "-f", str(config)], setting.port)

    return plan


def _nginx(setting: Setting, port: int, backends: list[int], **how: Any) -> Launch:
    config = setting.directory / f"nginx-{port}.conf"
    config.write_text(nginx_config(setting.directory, port, backends, **how))
    command = ["nginx", "-p", str(setting.directory), "-e", f"nginx-{port}.err"]
    return Launch("proxy", [*command, "-c", str(config), "-g", "daemon off;"], port)


# One process, and so one pool of connections, on which all clients are mixed.
_POOL = {"keepalive": 8, "processes": 1}


def _rehoming(stickyd: str) -> Plan:
    def plan(setting: Setting) -> Iterator[Launch]:
        port = setting.more_ports()
        yield Launch("primary", replace(setting, port=port).fill(stickyd), port)
        yield _nginx(setting, setting.port, [port], balance="", **_POOL)

    return plan


def _hashing(hop: bool) -> Plan:
    def plan(setting: Setting) -> Iterator[Launch]:
        workers = [setting.more_ports() for _ in range(setting.workers)]
        for port in workers:
            yield _unrouted(port, behind=True)
        if not hop:
            yield _nginx(setting, setting.port, workers, balance=_hash_by("remote_addr"), **_POOL)
            return
        inner, client = setting.more_ports(), "http_x_forwarded_for"
        yield _nginx(
            setting, inner, workers, balance=_hash_by(client), client=f"${client}", **_POOL
        )
        yield _nginx(setting, setting.port, [inner], balance="", **_POOL)

    return plan


def _hash_by(variable: str) -> str:
    return f"hash ${variable} consistent;"


_ASGI_COUNTER = "--asgi benchmarks.systems.asgi_counter:app"
_UVICORN = (
    "{peers}/bin/uvicorn --workers {workers} --loop uvloop --http httptools --ws websockets"
    " --no-access-log --log-level warning --host 127.0.0.1 --port {port}"
    " benchmarks.systems.asgi_counter:app"
)
_GRANIAN = (
    "{peers}/bin/granian --interface asgi --workers {workers} --loop uvloop --no-access-log"
    " --host 127.0.0.1 --port {port} benchmarks.systems.asgi_counter:app"
)
_GRANIAN_WSGI = (
    "{peers}/bin/granian --interface wsgi --workers {workers} --no-ws --no-access-log"
    " --host 127.0.0.1 --port {port} benchmarks.systems.wsgi_counter:app"
)
_GUNICORN_PLAIN = (
    "{peers}/bin/gunicorn --workers {workers} --bind 127.0.0.1:{port} --no-control-socket"
    " --worker-tmp-dir /dev/shm"
)
_GUNICORN = f"{_GUNICORN_PLAIN} benchmarks.systems.wsgi_counter:app"
_GUNICORN_ASGI = (
    f"{_GUNICORN_PLAIN} --worker-class asgi --asgi-loop uvloop --keep-alive 75"
    " benchmarks.systems.asgi_counter:app"
)
_WAITRESS = (
    "{peers}/bin/waitress-serve --listen 127.0.0.1:{port} --threads 16"
    " benchmarks.systems.wsgi_counter:app"
)


def _waitress(setting: Setting) -> Iterator[Launch]:
    # It has one process, whatever the setting says.
    yield Launch("worker", setting.fill(_WAITRESS), setting.port)


def catalogue(stickyd: str = STICKYD) -> dict[str, System]:
    """
    Every system that we know, by name.

    :param stickyd: the command line that starts stickyd; see :meth:`Setting.fill`.
    """
    trusting = "--trust 127.0.0.1"
    systems = [
        command_system("stickyd", stickyd),
        command_system("stickyd-cookie", f"{stickyd} --affinity cookie:{COOKIE}", cookie=COOKIE),
        command_system("stickyd-kernel", f"{stickyd} --steering kernel"),
        System("unrouted", _unrouted_workers),
        System("node-sticky", _node_sticky, ("node",)),
        System("node-cluster", _node_cluster, ("node",)),
        System("node-1", _node_one, ("node",)),
        System("twisted-1", _twisted_one),
        System("twisted-reuseport", _twisted_reuseport),
        System("nginx-node", _behind("nginx", "node"), ("nginx", "node")),
        System("nginx-twisted", _behind("nginx", "twisted"), ("nginx",)),
        System("haproxy-node", _behind("haproxy", "node"), ("haproxy", "node")),
        System("haproxy-twisted", _behind("haproxy", "twisted"), ("haproxy",)),
        command_system("uvicorn", _UVICORN, from_peers=True),
        command_system("granian", _GRANIAN, from_peers=True),
        command_system("gunicorn", _GUNICORN, from_peers=True),
        command_system("gunicorn-asgi", _GUNICORN_ASGI, from_peers=True),
        command_system("stickyd-asgi", f"{stickyd} {_ASGI_COUNTER}"),
        command_system("stickyd-asgi-kernel", f"{stickyd} {_ASGI_COUNTER} --steering kernel"),
        command_system("stickyd-wsgi", f"{stickyd} --wsgi benchmarks.systems.wsgi_counter:app"),
        System("waitress", _waitress, from_peers=True),
        command_system(
            "gunicorn-threads", f"{_GUNICORN} --threads 16 --keep-alive 75", from_peers=True
        ),
        command_system("granian-wsgi", _GRANIAN_WSGI, from_peers=True),
        System("floor", _floor),
        System("nginx-stickyd", _rehoming(f"{stickyd} {trusting}"), ("nginx",)),
        System(
            "nginx-stickyd-cookie",
            _rehoming(f"{stickyd} {trusting} --affinity cookie:{COOKIE}"),
            ("nginx",),
            cookie=COOKIE,
        ),
        *_session_systems(stickyd),
        System("nginx-hash", _hashing(hop=False), ("nginx",)),
        System("nginx-nginx-hash", _hashing(hop=True), ("nginx",)),
    ]
    return {system.name: system for system in systems}
