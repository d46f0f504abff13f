"""
The fork server: ``python -m stickyd.worker --fork-server``, from which workers are forked.

Theory of operation.  It imports what workers need of ours, and nothing of the application's; then
each order of the primary makes a worker of it by fork(2), which has all of that already and shares
its memory.  Like a process that is started anew, such a worker is a child of the primary: the
server forks a process that forks the worker and ends at once, and an orphan becomes a child of
its nearest ancestor that asks for orphans, which the primary does meanwhile (prctl(2),
``PR_SET_CHILD_SUBREAPER``).

A fork copies the thread that calls it and no other.  So this process has no thread but one; if
something else has begun one by now (what ``sitecustomize`` imports can do so), it forks nothing.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from stickyd.control.forking import (
    MOST_BYTES,
    WORKER_DESCRIPTORS,
    read_order,
    read_preload,
    write_answer,
    write_preloaded,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NUMBER = struct.Struct("i")

#: Above all that a worker finds at a number of its own.
_HIGH_DESCRIPTOR = 64

_THREADS = Path("/proc/self/task")


class ForkServer:
    """
    Forks a worker whenever the primary says so.
    """

    def __init__(self, channel: socket.socket) -> None:
        """
        :param channel: to the primary, blocking; closed in workers.
        """
        self._channel = channel
        # Shared with what is forked: how the one in between tells what it has forked.
        self._told = mmap(-1, _NUMBER.size)

    def run(self, preload: Callable[[str, list[str]], None]) -> str | None:
        """
        Import what workers need, and fork.

        :param preload: imports, given the settings and a path.
        :return: in a worker: its slot or ``spare``, for ``ps``.  In the server: :obj:`None` when
            the primary wants no more workers, or is gone.
        """
        try:
            asked = self._channel.recv(MOST_BYTES)
            if not asked:
                return None
            preload(*read_preload(asked))
            self._channel.send(write_preloaded(_refusal()))
            return self._fork_as_told()
        except ConnectionError:
            return None

    def _fork_as_told(self) -> str | None:
        while True:
            order, descriptors, _, _ = socket.recv_fds(
                self._channel, MOST_BYTES, len(WORKER_DESCRIPTORS)
            )
            if not order:
                return None
            if self._fork():
                self._channel.close()
                take(descriptors)
                return read_order(order)
            for descriptor in descriptors:
                os.close(descriptor)
            self._channel.send(write_answer(*_NUMBER.unpack(self._told)))

    def _fork(self) -> bool:
        """
        Fork a worker, and say which in the memory that is shared.

        :return: whether this is the worker.
        """
        try:
            between = os.fork()
        except OSError as problem:
            self._tell(-(problem.errno or 0))
            return False
        if between:
            # Only when it has ended is the worker the primary's.
            os.waitpid(between, 0)
            return False
        try:
            worker = os.fork()
        except OSError as problem:
            worker = -(problem.errno or 0)
        if worker:
            self._tell(worker)
            os._exit(0)
        return True

    def _tell(self, number: int) -> None:
        _NUMBER.pack_into(self._told, 0, number)


def _refusal() -> str:
    """
    Why nothing must be forked; empty if it may.
    """
    try:
        threads = len(os.listdir(_THREADS))
    except OSError as problem:
        return f"{_THREADS} cannot be read ({problem.strerror}), which has the threads of a process"
    if threads > 1:
        return (
            f"{threads - 1} more thread(s) run in a process that has imported nothing of the"
            " application's: something begins them wherever Python starts, as sitecustomize can"
        )
    return ""


def take(descriptors: Sequence[int]) -> None:
    """
    Put what came with an order where a worker finds it.

    :param descriptors: as :data:`stickyd.control.forking.WORKER_DESCRIPTORS` says; closed.
    """
    # None may be overwritten before it has been put where it belongs.
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _HIGH_DESCRIPTOR) for each in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, number in zip(high, WORKER_DESCRIPTORS, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def show_as(former: str, present: Sequence[str]) -> None:
    """
    Change this process's command line, for ``ps``, where there is a ``/proc``.

    :param former: its last argument.
    :param present: what stands there instead; no longer than that.
    """
    sys.argv[-1:] = present
    sys.orig_argv[-1:] = present
    shown, room = "\0".join(present).encode(), len(former.encode())
    try:
        line = Path("/proc/self/cmdline").read_bytes()
        # proc(5) counts from 1; the third stands behind the name, which is in parentheses.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return
    at = line.rfind(b"\0" + former.encode() + b"\0") + 1
    start = int(fields[48 - 3])
    if at > 0 and start and len(shown) <= room:
        ctypes.memmove(start + at, shown.ljust(room, b"\0"), room)
