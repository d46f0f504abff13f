"""
The fork server, as the primary talks to it: a real one, and real workers.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stickyd.control.forking import (
    WORKER_DESCRIPTORS,
    read_answer,
    read_preloaded,
    write_order,
    write_preload,
)
from stickyd.settings import Settings
from stickyd.system.subreaper import adopting_orphans
from stickyd.worker.fork_server import ForkServer
from tests.system.log import PATIENCE
from tests.system.processes import eventually
from tests.system.server import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Puts the channel where the server looks for it, and becomes the server.
RUN = (
    "import os, sys; channel = int(sys.argv[1]); os.set_inheritable(channel, False);"
    " os.dup2(channel, 4) if channel != 4 else os.set_inheritable(4, True);"
    " os.execv(sys.executable, [sys.executable, '-m', 'stickyd.worker', '--reactor', 'uvloop',"
    " '--fork-server'])"
)

#: What Python imports wherever it starts, and begins a thread.
SITE = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"


class Worker:
    """
    A forked worker, and what it was given.

    :ivar ends: our ends of that.
    :ivar given: the inodes of its own, by the numbers where it looks for them.
    """

    def __init__(self, pid: int, ends: list[socket.socket], given: dict[int, int]) -> None:
        self.pid = pid
        self.ends = ends
        self.given = given

    @property
    def command_line(self) -> list[str]:
        """
        What ``ps`` shows of it.
        """
        line = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        return line.rstrip(b"\0").decode().split("\0")

    @property
    def parent(self) -> int:
        """
        The process that waits for its end.
        """
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[1])


class Server:
    """
    A fork server, and our end of its channel.

    :ivar inode: of its own end.
    """

    def __init__(self, ends: ExitStack, **variables: str) -> None:
        self._ends = ends
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ends.enter_context(self.channel)
        self.channel.settimeout(PATIENCE)
        self.inode = os.fstat(theirs.fileno()).st_ino
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
            )
        ends.callback(self.process.wait, PATIENCE)
        ends.callback(self.process.kill)
        self.channel.send(write_preload(Settings().to_json(), []))

    def refusal(self) -> str:
        """
        Wait until it has imported what workers need.
        """
        return read_preloaded(self.channel.recv(4096))

    def fork(self, place: str) -> Worker:
        """
        Have it fork a worker.
        """
        pairs = [socket.socketpair() for _ in WORKER_DESCRIPTORS]
        ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        given = [end.fileno() for end in theirs]
        inodes = [os.fstat(descriptor).st_ino for descriptor in given]
        with adopting_orphans():
            socket.send_fds(self.channel, [write_order(place)], given)
            pid = read_answer(self.channel.recv(4096))
        for end in theirs:
            end.close()
        worker = Worker(pid, ours, dict(zip(WORKER_DESCRIPTORS, inodes, strict=True)))
        self._ends.callback(self._end, worker)
        return worker

    def _end(self, worker: Worker) -> None:
        for end in worker.ends:
            end.close()
        # Its control channel has ended, and so it does.
        os.waitpid(worker.pid, 0)


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    """
    Ends what a test begins.
    """
    with ExitStack() as stack:
        yield stack


def test_workers_are_our_children_and_have_their_own_ends(ends: ExitStack) -> None:
    """
    Each worker is this process's child, ``ps`` shows its place, it has what came with its order
    where it looks for it, and nothing of the server's or of another worker's.
    """
    server = Server(ends)
    assert server.refusal() == ""
    workers = [server.fork(place) for place in ("0", "255", "spare")]
    for worker, place in zip(workers, ("0", "255", "spare"), strict=True):
        assert worker.parent == os.getpid()
        shown = ["--slot", place]
        assert eventually(lambda: worker.command_line[-2:] == shown)  # noqa: B023 (called now)
        folder = Path(f"/proc/{worker.pid}/fd")
        open_files = {int(entry.name): os.readlink(entry) for entry in folder.iterdir()}
        for number, inode in worker.given.items():
            assert open_files[number] == f"socket:[{inode}]"
        others = {server.inode}.union(*(w.given.values() for w in workers if w is not worker))
        assert not {f"socket:[{inode}]" for inode in others} & set(open_files.values())
    line = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    assert line.endswith(b"\0--fork-server\0")


def test_it_ends_with_the_primary(ends: ExitStack) -> None:
    """
    When the channel ends the server exits, and a worker stays.
    """
    server = Server(ends)
    assert server.refusal() == ""
    worker = server.fork("0")
    server.channel.close()
    assert server.process.wait(PATIENCE) == 0
    assert worker.parent == os.getpid()


def test_it_ends_before_it_was_told_anything(ends: ExitStack) -> None:
    """
    A primary that dies at once leaves no server behind.
    """
    server = Server(ends)
    server.channel.close()
    assert server.process.wait(PATIENCE) == 0


def test_it_forks_nothing_beside_threads(ends: ExitStack, tmp_path: Path) -> None:
    """
    Where something begins a thread as Python starts, the server says so: fork(2) would copy the
    locks that the thread holds, and not the thread.
    """
    (tmp_path / "sitecustomize.py").write_text(SITE)
    root = environment()["PYTHONPATH"]
    server = Server(ends, PYTHONPATH=f"{tmp_path}{os.pathsep}{root}")
    assert "1 more thread(s) run in a process that has imported nothing" in server.refusal()


@pytest.mark.parametrize("attempt", [1, 2])
def test_want_of_processes_is_told(
    ends: ExitStack, monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    """
    Whichever of the two processes cannot be had, the answer says why, and the server goes on.
    """
    fork, calls = os.fork, iter(range(1, 10))

    def limited() -> int:
        if next(calls) == attempt:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ends.enter_context(ours).settimeout(PATIENCE)
    ends.enter_context(theirs)
    ours.send(write_preload("{}", []))
    ours.send(write_order("0"))
    ours.shutdown(socket.SHUT_WR)
    monkeypatch.setattr(os, "fork", limited)
    assert ForkServer(theirs).run(lambda settings, path: None) is None
    ours.recv(4096)
    with pytest.raises(BlockingIOError):
        read_answer(ours.recv(4096))
