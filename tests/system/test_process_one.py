"""
The whole server as process 1 of a container, in which nothing can be written.
"""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client, ask_once
from tests.system.processes import children_of, eventually, state_of
from tests.system.server import LONG, ROOT

if TYPE_CHECKING:
    from tests.system.conftest import Start

#: New namespaces of processes and mounts; whatever is left in there ends with its first process.
UNSHARE = ("unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), "--mount",
           "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec")  # fmt: skip

#: Nothing can be written, and process 1 is left a child that is not its own.
READ_ONLY = f"""
mount --bind / / && mount -o remount,bind,ro /
for folder in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o ro none $folder; done
cd {ROOT}
sleep 2 &
exec "$@"
"""

#: What is no command, to the primary, and what is told of it.
MEANINGLESS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR,
               getattr(signal, "SIGSTKFLT", signal.SIGALRM),  # Python 3.11 is the first to have it
               *range(signal.SIGRTMIN, signal.SIGRTMAX + 1))  # fmt: skip

#: Its commands; what cannot be ignored; what says that a process is broken.
COMMANDS = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2,
            signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)  # fmt: skip
FORCED = (signal.SIGKILL, signal.SIGSTOP)
BROKEN = (signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)

#: All others.
UNTOLD = sorted(
    set(range(1, signal.SIGRTMAX)) - {*MEANINGLESS, *COMMANDS, *FORCED, *BROKEN, 32, 33}
)

#: What reaches workers that share a terminal, or is mistaken for a command to one.
HARMLESS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1,
            signal.SIGALRM, signal.SIGPROF, signal.SIGIO)  # fmt: skip


@pytest.mark.parametrize(
    "end",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.soak),
        pytest.param(signal.SIGQUIT, marks=pytest.mark.soak),
    ],
)
def test_process_one_without_a_place_to_write(end: signal.Signals, start: Start) -> None:
    """
    It heeds all its signals, which the kernel keeps from a process 1 without a handler, and those
    that it does not know do no harm, nor to a worker; it reaps orphans; it is reloaded, resized
    and upgraded with neither a writable folder nor TMPDIR; a request that needs one gets 503.
    """
    server = start(
        "--resource", "tests.system.apps:site", "--log-format", "twisted",
        workers=1, listen="tcp:0:interface=127.0.0.1", before=(*UNSHARE, READ_ONLY, "sh"),
        variables={"TMPDIR": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    server.allow("There is no control socket for stickyctl")
    server.log.wait_for("Primary 1 running")
    (primary,) = children_of(server.pid)
    below = children_of(primary).items()
    (worker,) = [pid for pid, line in below if line.endswith("--slot 0")]
    (forks,) = [pid for pid, line in below if line.endswith("--fork-server")]
    for signum in MEANINGLESS:
        os.kill(primary, signum)
        server.log.wait_for(rf"{re.escape(_name(signum))} means nothing here")
    for signum in UNTOLD:
        os.kill(primary, signum)
    for signum in HARMLESS:
        os.kill(worker, signum)
        os.kill(forks, signum)
    assert ask_once(server.target, path="/mirror").status == 200
    os.kill(primary, signal.SIGUSR1)
    server.log.wait_for("The log begins here")
    with Client(server.target) as client:
        server.allow("A request's body is refused")
        client.send("/mirror", False, "Content-Length: 300000")
        client.socket.sendall(bytes(300_000))
        assert client.answer().status == 503
    server.log.wait_for(r"it cannot be kept in any folder \(set TMPDIR")
    assert state_of(worker) in "RSD"
    os.kill(worker, signal.SIGHUP)
    server.log.wait_for("was told to end")
    server.log.wait_for(r"Worker \d+ online", count=2, timeout=LONG)
    for signum, told in (
        (signal.SIGHUP, "Reloaded: every worker is fresh"),
        (signal.SIGTTIN, "Resized from 1 to 2"),
        (signal.SIGTTOU, "Resized from 2 to 1"),
    ):
        since = server.log.mark()
        os.kill(primary, signum)
        server.log.wait_for(told, since, timeout=LONG)
    since = server.log.mark()
    os.kill(primary, signal.SIGUSR2)
    server.log.wait_for("Primary 1 running", since, timeout=LONG)
    server.log.wait_for("Reloaded: every worker is fresh", since, timeout=LONG)
    assert eventually(lambda: all("--" in line for line in children_of(primary).values()))
    os.kill(primary, end)
    assert server.wait_until_gone() == 0
    server.check_nothing_left()


def _name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"SIGRTMIN+{signum - signal.SIGRTMIN}"
