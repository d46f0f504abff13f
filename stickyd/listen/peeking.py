"""
Looking at the first bytes of a connection, between accepting it and choosing its slot.

Theory of operation.  The bytes are looked at with ``MSG_PEEK`` and stay in the socket, so
that the worker finds the connection untouched; only a PROXY header is consumed, to its
exact length.  Nearly always they are there when the connection is, or come as one piece.
Else the connection waits: ``SO_RCVLOWAT`` (socket(7)) is raised to what was seen and what
is missing, as a descriptor that is merely *readable* would wake us without end; and it is
set back to 1 before the connection goes, as it stays with the socket.

A connection that waits costs its descriptor and a few hundred bytes, no timer of its own;
how many wait, for how long, and for how many bytes is bounded.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from socket import AF_INET, MSG_DONTWAIT, MSG_PEEK, SOCK_STREAM, SocketType
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from stickyd.affinity.peek.client_hello import LONGEST_HELLO_BYTES, MOST_RECORDS
from stickyd.affinity.peek.first_bytes import NEITHER, FirstBytes, TooLongError
from stickyd.affinity.peek.http1 import whole_head
from stickyd.affinity.peek.need import Need
from stickyd.affinity.peek.proxy_header import (
    V2_LONGEST_BYTES,
    ProxyHeaderError,
    announced,
    parse_header,
)
from stickyd.handoff.frame import BY_KEY, Flag, Handoff
from stickyd.listen.pending import Connection, PendingConnections, Readable
from stickyd.net.throttle import Throttle

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from stickyd.affinity.peek.first_bytes import Seen
    from stickyd.affinity.resolve import Resolver
    from stickyd.affinity.trust import Networks
    from stickyd.interfaces import IDestination, IReadiness
    from stickyd.settings import Settings

#: Seconds between two lines in the log about the same thing.
QUIET_SECONDS = 10.0

# Flags of the socket module take half a microsecond to unite.
_PEEK = int(MSG_PEEK | MSG_DONTWAIT)

_HELLO_BYTES = LONGEST_HELLO_BYTES + 5 * MOST_RECORDS


@dataclass(frozen=True)
class Bounds:
    """
    How much is waited for.

    :ivar head_bytes: how long a head may be.
    :ivar timeout: seconds that a connection may wait.
    :ivar most: how many may wait at a time.
    :ivar closes: whether a connection past these bounds is closed; else it is placed by its
        address.  One that still owes its PROXY header is closed in any case.
    """

    head_bytes: int
    timeout: float
    most: int
    closes: bool

    @classmethod
    def of(cls, settings: Settings, descriptors: int) -> Bounds:
        """
        Those of the settings.

        :param descriptors: how many the waiting connections may have.
        """
        return cls(
            settings.head_bytes,
            settings.sniff_timeout,
            min(settings.sniff_limit, descriptors),
            settings.sniff_overflow == "close",
        )


class Peeker:
    """
    Delivers each connection as soon as its first bytes say where it belongs.

    :ivar counts: what became of those that were not simply placed, by reason.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        readiness: IReadiness,
        destination: IDestination,
        resolver: Resolver,
        trust: Networks,
        proxied: bool,
        bounds: Bounds,
        counts: Counter[str] | None = None,
    ) -> None:
        """
        :param trust: the peers whose PROXY headers and forwarded headers count.
        :param proxied: whether these peers, and nobody else, begin with a PROXY header.
        :param counts: where to count; its own by default.
        """
        self._clock = clock
        self._readiness = readiness
        self._destination = destination
        self._resolver = resolver
        self._trust = trust
        self._proxied = proxied
        self._bounds = bounds
        self._buffer = memoryview(bytearray(max(bounds.head_bytes, _HELLO_BYTES, V2_LONGEST_BYTES)))
        self._room = PendingConnections(
            clock, readiness, bounds.most, bounds.timeout, self._look, self._too_late
        )
        # A connection may begin with a PROXY header or a ClientHello instead of a request.
        self._others_first = proxied or resolver.needs_hello
        self._throttle = Throttle(clock.seconds, QUIET_SECONDS)
        self.counts: Counter[str] = Counter() if counts is None else counts

    def __len__(self) -> int:
        """
        How many connections wait.
        """
        return len(self._room)

    def accepted(self, descriptor: int, host: str, port: int) -> None:
        """
        Look at an accepted connection, and deliver it, now or later.

        :param descriptor: ours from now on.
        """
        if self._wants_head(host):
            if not self._others_first and self._at_once(descriptor, host, port):
                return
        elif not self._others_first:
            key = self._resolver.resolve(host).key or b""
            self._destination.deliver(Handoff(descriptor, host, port, key))
            return
        self._look(Connection(descriptor, host, port, self._proxied))

    def _wants_head(self, host: str) -> bool:
        resolver = self._resolver
        return resolver.needs_head or (resolver.needs_origin and host in self._trust)

    def _at_once(self, descriptor: int, host: str, port: int) -> bool:
        """
        Deliver a connection if the head of its first request is there as a whole, as nearly
        always.

        This does what :meth:`_look` would, with half of the work: nothing is made that only a
        waiting connection needs.

        :return: False if the head is not there; then nothing has been done.
        """
        # Of what family it is only matters to addresses.
        sock = SocketType(AF_INET, SOCK_STREAM, 0, descriptor)
        try:
            size = sock.recv_into(self._buffer, 0, _PEEK)
        except OSError:
            return False
        finally:
            sock.detach()
        head = whole_head(bytes(self._buffer[:size]))
        if head is None:
            return False
        slot, key, generation, learned = self._resolver.home(host, head)
        handoff = Handoff(descriptor, host, port, key, slot=slot, flags=Flag.PLACED)
        handoff.generation, handoff.learned = generation, learned
        self._destination.deliver(handoff)
        return True

    # looking

    def _look(self, conn: Connection) -> None:
        try:
            size = conn.sock.recv_into(self._buffer, 0, _PEEK)
        except BlockingIOError:
            self._wait(conn, 0, 1)
            return
        except OSError:
            size = 0
        why = conn.why_readable() if size == conn.seen else None
        if not size or why is Readable.ENDED:
            self.counts["gone"] += 1
            self._close(conn)
            return
        if why is not None:
            if why is Readable.URGENT:
                self._give_up(conn, "urgent data")
            else:
                self._room.look_again(conn)
            return
        seen = bytes(self._buffer[:size])
        if conn.owes:
            taken = self._take_header(conn, seen)
            if taken is None:
                return
            seen = seen[taken:]
        self._read(conn, seen)

    def _take_header(self, conn: Connection, seen: bytes) -> int | None:
        """
        Take the PROXY header off a connection.

        :return: how many bytes were taken; None if the connection waits or is closed.
        """
        if conn.peer not in self._trust:
            begins = announced(seen)
            if begins:
                self._refuse(conn, "a PROXY header from a peer outside --trust")
                return None
            if begins is None:
                self._wait(conn, len(seen), 1)
                return None
            conn.owes = False
            return 0
        try:
            header = parse_header(seen)
        except ProxyHeaderError as problem:
            self._refuse(conn, str(problem))
            return None
        if isinstance(header, Need):
            self._wait(conn, len(seen), header.more)
            return None
        conn.sock.recv_into(self._buffer, header.length, MSG_DONTWAIT)
        conn.owes = False
        if header.source is not None:
            conn.host, conn.port = header.source
            conn.claimed = True
        conn.secure = header.secure
        return header.length

    def _read(self, conn: Connection, seen: bytes) -> None:
        if conn.first is None:
            resolver = self._resolver
            wants_head = self._wants_head(conn.host)
            if not (wants_head or resolver.needs_hello):
                self._deliver(conn, NEITHER)
                return
            conn.first = FirstBytes(wants_head, resolver.needs_hello, self._bounds.head_bytes)
        try:
            found = conn.first.feed(seen)
        except TooLongError:
            self._give_up(conn, "too long")
            return
        if isinstance(found, Need):
            self._wait(conn, len(seen), found.more)
            return
        self._deliver(conn, found)

    def _deliver(self, conn: Connection, found: Seen) -> None:
        head, hello = found
        slot, key, generation, learned = self._resolver.home(conn.host, head, hello)
        flags = 0 if head is None else Flag.PLACED
        self._pass_on(conn, key, slot, flags, generation, learned)

    def _wait(self, conn: Connection, seen: int, more: int) -> None:
        if not self._room.wait(conn, seen, more):
            self._give_up(conn, "too many")

    # the ends

    def _too_late(self, conn: Connection) -> None:
        self._give_up(conn, "too late")

    def _give_up(self, conn: Connection, why: str) -> None:
        self.counts[why] += 1
        if self._bounds.closes or (conn.owes and conn.peer in self._trust):
            self._close(conn)
        else:
            self._pass_on(conn, self._resolver.fallback_key(conn.host), BY_KEY, 0)

    def _refuse(self, conn: Connection, why: str) -> None:
        self.counts["refused"] += 1
        if self._throttle.due():
            self._log.warn(
                "Connection of {host} closed: {why}; {count} so far",
                event="connection.not-placed",
                host=conn.peer or "a UNIX socket",
                why=why,
                count=self.counts["refused"],
            )
        self._close(conn)

    def _close(self, conn: Connection) -> None:
        # Strictly before the descriptor is closed or passed on, or epoll goes on firing for
        # one that can no longer be removed.
        self._room.forget(conn)
        conn.sock.close()

    def _pass_on(
        self,
        conn: Connection,
        key: bytes,
        slot: int,
        flags: int,
        generation: int = 0,
        learned: bytes = b"",
    ) -> None:
        if conn.deadline:
            self._room.forget(conn)
        conn.set_mark(1)
        if conn.claimed:
            flags |= Flag.CLAIMED
        if conn.secure:
            flags |= Flag.TLS_BEFORE
        handoff = Handoff(conn.sock.detach(), conn.host, conn.port, key, slot=slot, flags=flags)
        handoff.generation, handoff.learned = generation, learned
        self._destination.deliver(handoff)

    def stop(self) -> None:
        """
        Wait no more: each connection that waits is placed by its address.
        """
        for conn in self._room.empty():
            self._give_up(conn, "stopped")

    # a primary that replaces itself

    def dump_state(self) -> list[dict[str, Any]]:
        """
        The connections that wait as JSON can carry them, descriptors by number.  Nothing is
        closed.
        """
        return [
            {
                "descriptor": conn.sock.fileno(),
                "peer": conn.peer,
                "host": conn.host,
                "port": conn.port,
                "claimed": conn.claimed,
                "secure": conn.secure,
                "owes": conn.owes,
            }
            for conn in self._room
        ]

    def restore_state(self, plain: dict[str, Any]) -> None:
        """
        Go on with a connection that waited before this primary replaced its code.
        """
        conn = Connection(plain["descriptor"], plain["peer"], plain["port"], plain["owes"])
        conn.host, conn.claimed = plain["host"], plain["claimed"]
        conn.secure = plain["secure"]
        conn.forget_mark()
        self._look(conn)
