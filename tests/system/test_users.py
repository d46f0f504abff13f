"""
Root's rights given up, by the primary or by the workers alone, with everything else as ever.

CI runs these as root; to anybody else the refusal is shown.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stickyd.sessions.stores.sealer import Sealer
from stickyd.sessions.stores.sqlite_file import SessionFile
from stickyd.sessions.stores.unreadable import RecordReader
from tests.system.client import Client, ask_once
from tests.system.opened import ids_of, opened
from tests.system.processes import eventually
from tests.system.test_tls import Secure
from tests.system.test_upgrade import Daemon
from tests.tls_harness import write_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import Start
    from tests.system.server import Server

NOBODY = ("--uid", "nobody", "--gid", "nogroup")

ROOT = ({0}, {0})


def nobody() -> tuple[set[int], set[int]]:
    """
    The ids of those who have no rights.
    """
    return {pwd.getpwnam("nobody").pw_uid}, {grp.getgrnam("nogroup").gr_gid}


@pytest.fixture
def before(tmp_path: Path) -> list[str]:
    """
    What lets everybody read what the server runs from.
    """
    hold = tmp_path / "hold"
    hold.mkdir()
    return opened(hold)


@pytest.fixture
def public() -> Iterator[Path]:
    """
    A directory that everybody may look into.
    """
    path = Path(tempfile.mkdtemp())
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path)


def own_address() -> str:
    """
    A loopback address of this test process, on which the ports below 1024 are its own.
    """
    pid = os.getpid()
    return f"127.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}"


def check_ids(server: Server, primary: tuple[set[int], set[int]]) -> None:
    """
    Check who the processes are: the workers nobody, and in nobody's groups only.
    """
    assert ids_of(server.pid)[:2] == primary
    for slot in range(server.workers):
        *ids, groups = ids_of(server.worker(slot))
        assert tuple(ids) == nobody()
        assert groups == nobody()[1]


def check_it_all_works(server: Server, primary: tuple[set[int], set[int]]) -> None:
    """
    Have clients served, the workers replaced, and the primary's code replaced.
    """
    check_ids(server, primary)
    with Client((own_address(), 81)) as client:
        assert client.ask().counted[1] == 1
        server.reload()
        assert client.ask().counted[1] == 2
        server.upgrade()
        check_ids(server, primary)
        assert client.ask().counted[1] == 3
    assert ask_once((own_address(), 81)).counted[1] == 4


@pytest.mark.parametrize("steering", ["handoff", "kernel"])
def test_root_is_given_up(
    steering: str, start: Start, before: list[str], tmp_path: Path
) -> None:  # fmt: skip
    """
    ``twistd --uid --gid``: a port below 1024 is bound, then nobody is root any more; reload
    and upgrade work, though the pid file is root's.
    """
    pid_file = tmp_path / "pid"
    server = start(
        *("--steering", steering),
        workers=1,
        listen=f"tcp:81:interface={own_address()}",
        before=before,
        twistd_options=("-n", f"--pidfile={pid_file}", *NOBODY),
        ready=False,
    )
    if os.geteuid() != 0:
        assert server.wait_until_gone() == 1
        server.log.wait_for("ports below 1024 need root")
        return
    server.wait_until_ready()
    # Twisted says so at every upgrade, and that it may not remove the file at the end.
    server.allow("tried to drop privileges and setuid")
    check_it_all_works(server, nobody())
    assert pid_file.read_text() == str(server.pid)
    server.allow("Not resized: ")
    server.send(signal.SIGTTIN)
    if steering == "kernel":
        # A socket more cannot be had without root.
        server.log.wait_for("Not resized: .* Permission denied")
    else:
        server.log.wait_for("Resized from 1 to 2 slots")


@pytest.mark.parametrize("steering", ["handoff", "kernel"])
def test_only_the_workers_give_up_root(
    steering: str, start: Start, before: list[str]
) -> None:  # fmt: skip
    """
    ``stickyd --uid --gid``: the workers have no rights, the primary keeps root's, and all
    works, a resize too.
    """
    server = start(
        *("--steering", steering, *NOBODY),
        workers=1,
        listen=f"tcp:81:interface={own_address()}",
        before=before,
        ready=False,
    )
    if os.geteuid() != 0:
        assert server.wait_until_gone() == 1
        server.log.wait_for("only root can run workers as somebody else")
        return
    server.wait_until_ready()
    check_it_all_works(server, ROOT)
    server.resize_to(2)
    check_ids(server, ROOT)


def test_both_may_be_said(start: Start, before: list[str]) -> None:
    """
    Workers may be the user that the primary has become, and nobody else.
    """
    options = ("-n", "--pidfile=", *NOBODY)
    server = start(*NOBODY, before=before, twistd_options=options, ready=False)
    other = start("--uid", "daemon", before=before, twistd_options=options, ready=False)
    assert other.wait_until_gone() == 1
    other.log.wait_for("only root can run workers as somebody else")
    other.allow(".")
    if os.geteuid() != 0:
        assert server.wait_until_gone() == 1
        return
    server.wait_until_ready()
    check_ids(server, nobody())
    assert ask_once(server.target).counted == (server.worker(0), 1)


def test_the_application_is_tried_without_rights(start: Start, before: list[str]) -> None:
    """
    Root never imports the application, neither to try it nor to serve it.
    """
    server = start(
        *("--resource", "tests.system.broken.rootless:root", *NOBODY),
        workers=1,
        before=before,
        ready=False,
    )
    if os.geteuid() != 0:
        assert server.wait_until_gone() == 1
        return
    server.wait_until_ready()
    server.reload()
    assert ask_once(server.target).status == 404


def test_tls_without_rights(start: Start, before: list[str], public: Path) -> None:
    """
    Workers without rights serve TLS, before and after a reload; a key that they may not
    read is told at the start, and keeps the old workers at a reload.
    """
    pair = write_certificate(public, "a", "a.test")
    key = Path(pair.split(",")[-1])
    key.chmod(0o644)
    arguments = ("--resource", "tests.system.apps:site", "--tls", pair, *NOBODY)
    server = start(*arguments, workers=1, before=before, ready=False)
    if os.geteuid() != 0:
        assert server.wait_until_gone() == 1
        return
    server.wait_until_ready()
    check_ids(server, ROOT)
    for reloaded in (False, True):
        if reloaded:
            server.reload()
        with Secure(server) as client:
            assert isinstance(client.tls, ssl.SSLSocket)
            assert client.ask("/mirror")[0] == 200
    key.chmod(0o600)
    server.allow("Not reloaded: ")
    server.send(signal.SIGHUP)
    server.log.wait_for(f"Not reloaded: .*{key}.*Permission denied")
    with Secure(server) as client:
        assert client.ask("/mirror")[0] == 200
    refused = start(*arguments, before=before, ready=False)
    assert refused.wait_until_gone() == 1
    refused.log.wait_for(f"{key}.*Permission denied")
    refused.allow(".")


def test_an_upgrade_that_could_not_log_is_refused(before: list[str], tmp_path: Path) -> None:
    """
    A daemon that has given up root, and whose log file is root's, stays what it is.
    """
    daemon = Daemon(tmp_path)
    try:
        daemon.start(before, NOBODY if os.geteuid() == 0 else ())
        if os.geteuid() != 0:
            (tmp_path / "twistd.log").chmod(0o400)
        os.kill(daemon.pid, signal.SIGUSR2)
        assert eventually(lambda: daemon.said("nothing has changed: the new code could not write"))
        assert ask_once(("127.0.0.1", daemon.port)).counted[1] == 1
        daemon.stop()
    finally:
        daemon.destroy()


def test_sessions_that_may_not_be_written(start: Start, before: list[str], public: Path) -> None:
    """
    A file of sessions that the workers' user may only read is one line, and the server does not
    start; the file stays as it is.
    """
    directory = public / "sessions"
    directory.mkdir(0o700)
    keep = directory / "slot-0.db"
    reader = RecordReader(Sealer(()), lambda: 0.0, "")
    file = SessionFile(keep, "", Sealer(()), reader)
    file.open(full=False)
    file.close()
    keep.chmod(0o444)
    root = os.geteuid() == 0
    if root:
        (uid,), (gid,) = nobody()
        os.chown(directory, uid, gid)
    server = start(
        *("--sessions", f"sqlite:{directory}", *(NOBODY if root else ())),
        workers=1,
        before=before,
        ready=False,
    )
    held = keep.read_bytes()
    assert server.wait_until_gone() == 1
    server.log.wait_for_end()
    # On a busy machine it says before what it waits for.
    (line,) = [line for line in server.log.lines if "sqlite" in line]
    assert line.startswith(f"stickyd: --sessions sqlite:{directory}: {keep}: ")
    assert "it may not be written; give the workers' user the right to" in line
    assert keep.read_bytes() == held
