"""
What a running primary says of its clients, beside the worker that really answers them.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stickyd.ctl.asking import ask_who_serves as ask
from stickyd.errors import OperatorError
from stickyd.explain import Client as Described
from tests.system.client import Client, ask_once
from tests.system.placing import source_address, sources_of
from tests.system.server import ROOT, environment

if TYPE_CHECKING:
    from pathlib import Path

    from stickyd.explain import Explanation
    from tests.system.conftest import Start
    from tests.system.server import Server

LISTEN = "tcp:0:interface=127.0.0.1"
SOURCES = [source_address(number) for number in range(40)]
TELLERS = ("--resource", "tests.system.frameworks.tellers:resource")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """
    Where the server answers operators.
    """
    return tmp_path / "control"


def asked(path: Path, source: str, *headers: tuple[str, str], target: str = "/") -> Explanation:
    """
    Ask the running server of a client, who is served there.
    """
    found = ask(str(path), Described(source, headers, target))
    assert found.worker is not None
    assert found.worker.state == "serving", str(found)
    return found


def pid_told(path: Path, source: str) -> int:
    """
    The worker that serves an address, as the server says.
    """
    found = asked(path, source)
    assert found.worker is not None
    return found.worker.pid


def check_addresses(server: Server, path: Path, workers: int) -> None:
    """
    See that each client is answered by the worker that the server has told before.
    """
    told = {source: pid_told(path, source) for source in SOURCES}
    assert {s: ask_once(server.target, s).counted[0] for s in SOURCES} == told
    assert len(set(told.values())) == workers


def run(*arguments: str) -> tuple[int, str, str]:
    """
    Run ``python -m stickyd explain``.

    :return: its exit code, and what it wrote to standard output and error.
    """
    done = subprocess.run(
        [sys.executable, "-m", "stickyd", "explain", *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("steering", ["handoff", "kernel"])
def test_addresses_through_all_changes(steering: str, start: Start, path: Path) -> None:
    """
    The pid that is told is the one that answers: at the start, after resizes, a reload, an
    upgrade and a death.
    """
    server = start("--steering", steering, "--control", str(path), workers=3, listen=LISTEN)
    check_addresses(server, path, 3)
    server.resize_to(4)
    check_addresses(server, path, 4)
    server.reload()
    check_addresses(server, path, 4)
    before = path.stat()
    server.upgrade()
    after = path.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    check_addresses(server, path, 4)
    server.resize_to(2)
    check_addresses(server, path, 2)
    killed = server.worker(1)
    server.allow(f"Worker {killed} .* died of signal 9")
    os.kill(killed, signal.SIGKILL)
    server.wait_for_successor(killed)
    check_addresses(server, path, 2)


@pytest.mark.parametrize("steering", ["handoff", "kernel"])
def test_drained_slot(steering: str, start: Start, path: Path) -> None:
    """
    Of a drained slot's clients it is told who has them now, and why.
    """
    server = start(
        "--steering", steering, "--control", str(path), workers=3, listen=LISTEN, embedded=True
    )
    assert server.ask("drain 1") == ""
    check_addresses(server, path, 2)
    (source,) = sources_of(1, 3, 1)
    found = asked(path, source)
    drained = f"which is not available (worker {server.worker(1)}, draining), so"
    assert f"gives 1, {drained}" in str(found)
    assert server.ask("undrain 1") == ""
    check_addresses(server, path, 3)
    assert asked(path, source).slot == 1


def test_tokens_of_a_random_secret(start: Start, path: Path) -> None:
    """
    A cookie is verified by the secret that only the server knows, and still is after an
    upgrade; a forged one falls through.
    """
    server = start("--affinity", "cookie:stickyd,ip", "--control", str(path), *TELLERS, workers=3)
    cookies = {}
    for source in SOURCES[:12]:
        with Client(server.target, source) as client:
            client.send()
            with client.response() as response:
                slot = json.loads(response.read())["slot"]
                cookies[source] = slot, (response.getheader("Set-Cookie") or "").split(";")[0]

    def check() -> None:
        for slot, cookie in cookies.values():
            # From an address whose own slot is another one, for most of them.
            found = asked(path, SOURCES[20], ("Cookie", cookie))
            with Client(server.target, SOURCES[20]) as client:
                client.send("/", False, f"Cookie: {cookie}")
                assert client.answer().told["slot"] == slot == found.slot
            assert found.worker is not None
            assert found.worker.pid == server.worker(slot)
            assert found.reasons == (f"cookie:stickyd: names slot {slot}, signed by us",)

    assert len({slot for slot, _ in cookies.values()}) == 3
    check()
    server.upgrade()
    check()
    forged = asked(path, SOURCES[0], ("Cookie", "stickyd=0.forged"))
    assert forged.entry == "ip/32/64"


def test_learned_ids(start: Start, path: Path) -> None:
    """
    An id that a worker has minted is told to be its slot's; asking claims nothing.
    """
    server = start(
        "--affinity", "learn:header:X-Id,ip", "--control", str(path), *TELLERS, workers=3
    )
    for source in SOURCES[:12]:
        unknown = asked(path, source, ("X-Id", "nobody minted it"))
        assert unknown.reasons[0].endswith("no available worker has claimed the id")
        with Client(server.target, source) as client:
            client.send("/mint")
            told = client.answer().told
        assert told["slot"] == unknown.slot
        found = asked(path, "127.0.0.1", ("X-Id", told["id"]))
        with Client(server.target) as other:
            other.send("/", False, f"X-Id: {told['id']}")
            assert other.answer().told["slot"] == told["slot"] == found.slot
        assert found.reasons == (f"learn:header:X-Id: claimed by slot {told['slot']}",)


def test_least(start: Start, path: Path) -> None:
    """
    A client is where it was before; an unknown one would be a newcomer, and does not become
    a known one by being asked about.
    """
    server = start(
        "--placement", "least", "--control", str(path), workers=3, listen=LISTEN, embedded=True
    )
    for source in SOURCES:
        assert "not remembered, so the least loaded slot" in str(asked(path, source))
    for source in SOURCES:
        ask_once(server.target, source)
    assert "remembered on slot" in str(asked(path, SOURCES[0]))
    check_addresses(server, path, 3)
    server.resize_to(2)
    check_addresses(server, path, 2)
    server.resize_to(3)
    assert server.ask("drain 0") == ""
    told = {source: pid_told(path, source) for source in SOURCES}
    assert {s: ask_once(server.target, s).counted[0] for s in SOURCES} == told
    assert server.worker(0) not in told.values()
    server.upgrade()
    told = {source: pid_told(path, source) for source in SOURCES}
    assert {s: ask_once(server.target, s).counted[0] for s in SOURCES} == told


def test_slot_without_a_worker(start: Start, path: Path) -> None:
    """
    While its worker does not start again, a slot is told to be restarting; once it has
    given up, to have failed, and who has its clients.
    """
    options = ("--resource", "tests.system.broken.crashing:root", "--control", str(path))
    crashing = {"STICKYD_TEST_CRASHING": "1"}
    (source,) = sources_of(1, 3, 1)
    server = start(*options, "--backoff", "60", workers=3, variables=crashing, ready=False)
    server.allow(r"\(slot 1\) exited with code 3")
    server.log.wait_for(r"next start in \d")
    found = ask(str(path), Described(source))
    assert str(found).splitlines()[0] == "slot 1: no worker, restarting"
    server.stop()
    server = start(*options, "--crash-limit", "1", workers=3, variables=crashing, ready=False)
    server.allow(r"\(slot 1\) exited with code 3", r"#critical\] Slot 1 failed")
    server.log.wait_for("Slot 1 failed")
    server.log.wait_for(r"Worker \d+ online", count=2)
    found = asked(path, source)
    assert "gives 1, which is not available (no worker, failed), so" in str(found)
    answered = ask_once(server.target, source).told
    assert found.worker is not None
    assert (answered["slot"], answered["pid"]) == (found.slot, found.worker.pid)


def test_command_line(start: Start, path: Path) -> None:
    """
    The command prints what the server says, and one line if there is none to be asked.
    """
    server = start("--control", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pid, _ = ask_once(server.target, SOURCES[3]).counted
    code, out, err = run("--control", str(path), "--address", SOURCES[3])
    first, *reasons = out.splitlines()
    assert (code, err) == (0, "")
    assert first == f"slot {server.slot_of(pid)}: worker {pid}, serving"
    assert reasons == [
        f"  ip/32/64: the key is {SOURCES[3]}: rendezvous over 2 slots gives {server.slot_of(pid)}"
    ]
    code, out, err = run("--control", str(path), "--address", "nowhere")
    assert (code, out) == (1, "")
    assert err == f"stickyd: --control {path}: --address: 'nowhere' is not an address\n"
    server.stop()
    assert not path.exists()
    code, out, err = run("--control", str(path))
    assert (code, out) == (1, "")
    assert err == (f"stickyd: --control {path}: nobody listens there; is the server running?\n")


def test_one_path_one_server(start: Start, path: Path) -> None:
    """
    A second server does not take the path of the first; the file that a killed one has
    left it does.
    """
    first = start("--control", str(path))
    second = start("--control", str(path), ready=False)
    assert second.wait_until_gone() == 1
    second.log.wait_for_end()
    assert second.log.lines[-1].endswith(
        f"stickyd: --control {path}: a server answers there already; give each one a path of"
        " its own"
    )
    second.allow("a server answers there already")
    assert asked(path, "127.0.0.1").slot is not None
    first.kill()
    assert path.exists()
    with pytest.raises(OperatorError, match="nobody listens there"):
        asked(path, "127.0.0.1")
    third = start("--control", str(path), workers=3)
    assert "rendezvous over 3 slots" in str(asked(path, "127.0.0.1"))
    third.stop()
    assert not path.exists()
