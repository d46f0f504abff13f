"""
Connections that wait for more of their first bytes.
"""

from __future__ import annotations

import select
import socket
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.affinity.peek.first_bytes import FirstBytes
    from stickyd.interfaces import IReadiness

#: Seconds between two looks at the deadlines.
COARSE_SECONDS = 0.25

#: Seconds until the next look at a socket that is readable with nothing new to read: a
#: UNIX socket, which has no low-water mark, or any while the kernel lacks memory.  Each look
#: in vain doubles them, up to the second number: 1,000 such connections cost next to nothing.
RETRY_SECONDS = 0.02
LONGEST_RETRY_SECONDS = 0.64

#: What to ask poll(2) for; it reports POLLHUP and POLLERR unasked.
_ENDED = getattr(select, "POLLRDHUP", 0)


class Readable(Enum):
    """
    Why a connection is readable that has no more bytes to be seen.
    """

    #: Nothing more will come.
    ENDED = "ended"
    #: There is urgent data (RFC 9293, section 3.8.5) in it, before which every peek ends.
    URGENT = "urgent"
    #: It has no low-water mark, or the kernel lacks memory.
    IN_VAIN = "in vain"


class Connection:
    """
    A connection whose first bytes are looked at.

    :ivar sock: its socket, which the owner of this object closes, or takes the descriptor of.
    :ivar peer: the address of the other end, as the socket reports it.
    :ivar host: the client's address, as far as it is known by now.
    :ivar port: the client's port, likewise.
    :ivar claimed: whether ``host`` and ``port`` are a PROXY header's.
    :ivar secure: whether a PROXY header says that the client speaks TLS with the proxy.
    :ivar owes: whether it has still to show if it begins with a PROXY header.
    :ivar first: reads what follows.
    :ivar seen: how many bytes the last look saw.
    :ivar deadline: until when it may wait, in the reactor's seconds; 0.0 if it never had to.
    :ivar retry_seconds: until it is looked at again, should there be nothing new to see.
    :ivar watched: whether it is looked at when it is readable.
    """

    __slots__ = (
        "_mark",
        "claimed",
        "deadline",
        "first",
        "host",
        "owes",
        "peer",
        "port",
        "retry_seconds",
        "secure",
        "seen",
        "sock",
        "watched",
    )

    def __init__(self, descriptor: int, host: str, port: int, owes: bool) -> None:
        # All four given, so that Python need not ask the kernel three times.
        family = socket.AF_UNIX
        if host:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The type beneath ``socket.socket``, which is made in less than half the time; the
        # methods that we need are all its.
        self.sock = socket.SocketType(family, socket.SOCK_STREAM, 0, descriptor)
        self.host = self.peer = host
        self.port = port
        self.claimed = False
        self.secure = False
        self.owes = owes
        self.first: FirstBytes | None = None
        self.seen = 0
        self.retry_seconds = RETRY_SECONDS
        self.deadline = 0.0
        self.watched = False
        self._mark = 1

    def set_mark(self, mark: int) -> None:
        """
        Be readable from so many bytes on; an end of the connection counts in any case.
        """
        if mark != self._mark:
            self._mark = mark
            # Linux has no reason to refuse it, not even for a connection that was reset.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)

    def forget_mark(self) -> None:
        """
        Assume no low-water mark, as another program may have set one.
        """
        self._mark = 0

    def why_readable(self) -> Readable:
        """
        Why it is readable with nothing new to be seen.

        Peeking cannot tell: after an end it still shows what was sent before, and of what was
        sent after urgent data it shows nothing.
        """
        poll = select.poll()
        poll.register(self.sock, _ENDED | select.POLLPRI)
        events = sum(event for _, event in poll.poll(0))
        if events & ~select.POLLPRI:
            return Readable.ENDED
        return Readable.URGENT if events else Readable.IN_VAIN


class PendingConnections:
    """
    Has connections looked at again when there is more to see, and given up in time.
    """

    def __init__(
        self,
        clock: IReactorTime,
        readiness: IReadiness,
        most: int,
        timeout: float,
        look: Callable[[Connection], None],
        too_late: Callable[[Connection], None],
    ) -> None:
        """
        :param most: how many may wait.
        :param timeout: seconds that each may wait; it may take :data:`COARSE_SECONDS` longer.
        :param look: called with a connection that has more to be seen, or has ended.
        :param too_late: called with one that has waited too long; it must forget it.
        """
        self._clock = clock
        self._readiness = readiness
        self._most = most
        self._timeout = timeout
        self._look = look
        self._too_late = too_late
        # In the order of their deadlines, since all have the same time.
        self._waiting: dict[Connection, None] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._waiting)

    def wait(self, conn: Connection, seen: int, more: int) -> bool:
        """
        Let a connection wait.

        :param seen: how many bytes of it were seen.
        :param more: how many more it takes to be worth another look.
        :return: False if too many wait; it does not then.
        """
        if conn not in self._waiting:
            if len(self._waiting) >= self._most:
                return False
            conn.deadline = self._clock.seconds() + self._timeout
            self._waiting[conn] = None
            self._watch_deadlines(self._timeout)
        if seen != conn.seen:
            conn.seen, conn.retry_seconds = seen, RETRY_SECONDS
        conn.set_mark(seen + more)
        if not conn.watched:
            conn.watched = True
            self._readiness.add_reader(conn.sock.fileno(), partial(self._look, conn))
        return True

    def forget(self, conn: Connection) -> None:
        """
        Let a connection go, if it waits.
        """
        self._unwatch(conn)
        self._waiting.pop(conn, None)

    def _unwatch(self, conn: Connection) -> None:
        if conn.watched:
            conn.watched = False
            self._readiness.remove_reader(conn.sock.fileno())

    def look_again(self, conn: Connection) -> None:
        """
        Look at a connection that waits again a little later, and not be woken meanwhile.
        """
        self._unwatch(conn)
        self._clock.callLater(conn.retry_seconds, self._look_if_waiting, conn)
        conn.retry_seconds = min(conn.retry_seconds * 2, LONGEST_RETRY_SECONDS)

    def _look_if_waiting(self, conn: Connection) -> None:
        if conn in self._waiting:
            self._look(conn)

    def _watch_deadlines(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(max(seconds, COARSE_SECONDS), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._waiting:
            conn = next(iter(self._waiting))
            if conn.deadline > now:
                self._watch_deadlines(conn.deadline - now)
                return
            self._too_late(conn)

    def empty(self) -> list[Connection]:
        """
        Let all go.

        :return: them.
        """
        waiting = list(self._waiting)
        for conn in waiting:
            self.forget(conn)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return waiting
