"""
The process of a worker that no transport of Twisted's knows.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.process import reapProcessHandlers
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.interfaces import IReadiness


class AdoptedProcess:
    """
    As much of Twisted's process transport as we need, for a child that Twisted has not started:
    the fork server has, or this process before it replaced its code, as an ``exec`` keeps
    children, but no Python object knows them any more.

    The child may have ended already.  That is told in a later turn of the reactor, when the
    caller of the constructor has this object.

    :ivar pid: its process id.
    """

    def __init__(
        self,
        clock: IReactorTime,
        readiness: IReadiness,
        pid: int,
        pipes: dict[int, int],
        received: Callable[[int, bytes], None],
        exited: Callable[[Failure], None],
    ) -> None:
        """
        :param pipes: our ends of its standard output and error, by its own descriptor
            number (1, 2); closed at their end of file.
        :param received: called with the number and what was read.
        :param exited: called once, with what Twisted's ``processExited`` is called with;
            never before the constructor has returned.
        """
        self._readiness = readiness
        self.pid = pid
        self.pipes = dict(pipes)
        self._received = received
        self._exited = exited
        self._over = False
        for number, descriptor in pipes.items():
            os.set_blocking(descriptor, False)
            self.read(number, True)
        # Not registerReapProcessHandler(), which looks at once whether the child has ended,
        # and would tell of it from within this constructor.
        reapProcessHandlers[pid] = self  # type: ignore[assignment]  # all that is called of it
        clock.callLater(0, self.reapProcess)

    def read(self, number: int, reads: bool) -> None:
        """
        Read a pipe, or leave it alone for a while.
        """
        if reads:
            self._readiness.add_reader(self.pipes[number], lambda: self._read(number))
        else:
            self._readiness.remove_reader(self.pipes[number])

    def _read(self, number: int) -> None:
        descriptor = self.pipes[number]
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._received(number, data)
            return
        self._readiness.remove_reader(descriptor)
        os.close(self.pipes.pop(number))

    def reapProcess(self) -> None:  # noqa: N802 (twisted.internet.process calls it)
        """
        Called when some child has ended.
        """
        if self._over:
            return
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = self.pid, 0
        if pid:
            self.processEnded(status)

    def processEnded(self, status: int) -> None:  # noqa: N802 (as above)
        """
        Called with what waitpid(2) tells of the end.
        """
        reapProcessHandlers.pop(self.pid, None)
        self._over = True
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        ended = ProcessTerminated(code, signum, status) if code or signum else ProcessDone(status)
        self._exited(Failure(ended))

    def signalProcess(self, signum: int) -> None:  # noqa: N802 (IProcessTransport's name)
        """
        Send a signal.

        :raises ProcessExitedAlready: if it has ended.
        """
        if self._over:
            raise ProcessExitedAlready
        try:
            os.kill(self.pid, signum)
        except ProcessLookupError:
            raise ProcessExitedAlready from None


def reap(clock: IReactorTime, readiness: IReadiness, pids: Iterable[int]) -> None:
    """
    End the workers that had no clients yet when this process replaced its code.
    """
    for pid in pids:
        process = AdoptedProcess(
            clock, readiness, pid, {}, lambda number, data: None, lambda reason: None
        )
        with suppress(ProcessExitedAlready):
            process.signalProcess(signal.SIGKILL)
