"""
Accepting connections: in the primary, and in workers that were given listening sockets.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyd.net.descriptors import OVERLOADS
from stickyd.net.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.interfaces import IReadiness

#: How many connections one wake-up accepts, so that a flood leaves room for other work.
BATCH = 64

#: Seconds without accepting after descriptors or memory have run out.
PAUSE_SECONDS = 0.1

#: Seconds between two lines in the log about overloads.
QUIET_SECONDS = 10.0


class AcceptLoop:
    """
    Accepts from a listening socket, at the least cost.

    It pauses when descriptors or memory run out: the connection stays in the queue then, and
    the socket readable, so to go on would be to spin.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        readiness: IReadiness,
        sock: socket.socket,
        accepted: Callable[[int, str, int], None],
        room: Callable[[], int] = lambda: BATCH,
    ) -> None:
        """
        :param sock: a non-blocking listening stream socket; whoever made it closes it.
        :param accepted: takes descriptor, host and port of each connection.
        :param room: asked at each wake-up how many there may be; at 0 the loop pauses,
            and whoever has room again starts it.
        """
        self._clock = clock
        self._readiness = readiness
        self._socket = sock
        self._accepted = accepted
        self._room = room
        self._has_ports = sock.family in (socket.AF_INET, socket.AF_INET6)
        self._pause: IDelayedCall | None = None
        self._stopped = False
        self._throttle = Throttle(clock.seconds, QUIET_SECONDS)
        #: How often it had to pause.
        self.overloads = 0

    def start(self) -> None:
        """
        Accept from now on.
        """
        if self._pause is None:
            self._readiness.add_reader(self._socket.fileno(), self._readable)

    def pause(self) -> None:
        """
        Accept nothing until :meth:`start`: newcomers wait in the kernel's queue.
        """
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        else:
            self._readiness.remove_reader(self._socket.fileno())

    def stop(self) -> None:
        """
        Accept no more, after what is in the kernel's queue: closing a listening socket
        resets the connections that wait in it.
        """
        self._stopped = True
        self.pause()
        for _ in range(socket.SOMAXCONN * 2):
            if not self._accept(BATCH):
                break

    def _readable(self) -> None:
        room = self._room()
        if room > 0:
            self._accept(min(room, BATCH))
        else:
            self.pause()

    def _accept(self, most: int) -> bool:
        """
        Accept up to ``most`` connections.

        :return: whether there may be more.
        """
        # accept() of the socket class costs twice as much, for a socket object that
        # would be taken apart at once; this one is accept4(2) with SOCK_CLOEXEC.
        accept = self._socket._accept  # type: ignore[attr-defined]
        accepted = self._accepted
        has_ports = self._has_ports
        for _ in range(most):
            try:
                descriptor, address = accept()
            except BlockingIOError:
                return False
            except OSError as problem:
                if problem.errno in OVERLOADS:
                    self._overloaded(problem)
                    return False
                if problem.errno == errno.EINVAL:
                    # Shut down by the process that shares it, it would be readable for ever.
                    self.pause()
                    return False
                # accept(2): errors of the new connection (ECONNABORTED, EPERM, network
                # errors) are to be treated like EAGAIN; the next one may be sound.
                continue
            if has_ports:
                accepted(descriptor, address[0], address[1])
            else:
                accepted(descriptor, "", 0)
        return True

    def _overloaded(self, problem: OSError) -> None:
        self.overloads += 1
        if self._throttle.due():
            self._log.warn(
                "Accepting pauses for {pause:g} s at a time: {problem}. Raise the limit of"
                " open files (ulimit -n, LimitNOFILE=) if this stays",
                event="accept.paused",
                pause=PAUSE_SECONDS,
                problem=os.strerror(problem.errno or 0),
            )
        if self._pause is None and not self._stopped:
            self._readiness.remove_reader(self._socket.fileno())
            self._pause = self._clock.callLater(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self.start()
