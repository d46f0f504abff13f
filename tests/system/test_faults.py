"""
The kernel says no for a while: nothing is lost, and nothing spins.

``strace -e inject`` has system calls of a running process fail, as a machine without
memory, descriptors or room in a socket does.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.system.client import ask_once
from tests.system.processes import cpu_seconds
from tests.system.server import Server
from tests.system.under_load import UnderLoad

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start

#: Which calls fail, and how; each as the manual page of the call says that it may.
FAULTS = [
    ("accept4", "EMFILE"),
    ("accept4", "ENOBUFS"),
    ("sendmsg", "EAGAIN"),
    ("sendmsg", "ENOBUFS"),
    ("sendmsg", "ETOOMANYREFS"),
    ("recvmsg", "EAGAIN"),
    ("recvmsg", "ENOBUFS"),
    ("recvmsg", "ENOMEM"),
]


class Injected:
    """
    A fault in every fifth call of a process, while the ``with`` block runs.
    """

    def __init__(self, pid: int, call: str, error: str) -> None:
        self._command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid),
                         "-e", f"trace={call}", "-e",
                         f"inject={call}:error={error}:when=5+5"]  # fmt: skip

    def __enter__(self) -> None:
        self._strace = subprocess.Popen(self._command, stderr=subprocess.PIPE)

    def __exit__(self, *_: object) -> None:
        self._strace.terminate()
        complaint = self._strace.communicate()[1]
        # It ends itself by the signal that it was sent, if it could trace at all.
        assert self._strace.returncode in (-15, 143, 0), complaint.decode()


@pytest.mark.soak
@pytest.mark.parametrize(("call", "error"), FAULTS)
def test_shortages_pass(
    call: str, error: str, start: Start, load_program: Path, tmp_path: Path
) -> None:
    """
    A call that fails now and then, in the primary or in a worker, costs nobody anything.
    """
    server = start(workers=2)
    server.allow("Accepting pauses", "could not be")
    with UnderLoad(load_program, server, tmp_path, 3, mode="close") as load:
        for pid in (server.pid, server.worker(0)):
            if (call, pid) != ("accept4", server.worker(0)):
                with Injected(pid, call, error):
                    server.pause(1)
    load.check_nothing_was_lost()
    if (call, error) == ("accept4", "EMFILE"):
        # It did happen.
        server.log.wait_for("Accepting pauses")
    # Whatever paused goes on, and whatever is over does not keep it busy.
    before = cpu_seconds(server.pid)
    server.pause(1)
    assert cpu_seconds(server.pid) - before < 0.3
    for source in ("127.0.0.2", "127.0.0.3", "127.0.0.5"):
        assert ask_once(server.target, source).status == 200


def test_a_full_disk_for_the_log(load_program: Path, tmp_path: Path) -> None:
    """
    A log that cannot be written does not stop the server.
    """
    server = Server(twistd_options=("-n", "--pidfile=", "--logfile=/dev/full"))
    try:
        while True:
            try:
                assert ask_once(server.target).counted[1] >= 1
            except OSError:
                server.pause(0.05)
            else:
                break
        with UnderLoad(load_program, server, tmp_path, 2) as load:
            server.pause(1)
        load.check_nothing_was_lost()
        server.process.terminate()
        assert server.wait_until_gone() == 0
    finally:
        server.destroy()
