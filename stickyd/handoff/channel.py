"""
One end of a handoff channel: passes connections, and keeps each until it is acknowledged.

Theory of operation.  The sender numbers a handoff, sends it, and keeps its own copy of
the descriptor in ``in flight``.  The receiver takes a batch, acknowledges the whole batch
with one message, and only then looks at the connections.  So an unacknowledged
connection is an unread one: :meth:`HandoffChannel.reclaim` gives it back when the
receiver dies, to be sent to its successor, and no client notices.

An end is one class, though a long one, because what it reads, owes and sends stands in one
order: NACKs before the ACK of the same batch, and that before anybody looks at a connection.
"""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from socket import MSG_CTRUNC, MSG_TRUNC
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from stickyd.errors import FrameError
from stickyd.handoff.fd_passing import receive_rights, send_rights
from stickyd.handoff.frame import (
    KIND_NAMES,
    MAX_FRAME_BYTES,
    Handoff,
    Kind,
    decode_handoff,
    encode_ack,
    encode_handoff,
    encode_nack,
    read_header,
)
from stickyd.interfaces import IHandoffSender
from stickyd.net.allowance import Allowance
from stickyd.net.descriptors import SHORTAGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from twisted.internet.interfaces import IReactorTime

    from stickyd.interfaces import IHandoffReceiver, IReadiness

#: How many messages one wake-up reads, so that a flood leaves room for other work.
BATCH = 64

#: What a send to an end that has closed fails with (unix(7)).
CLOSED = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN})

# Found faster than in the class.
_HANDOFF = Kind.HANDOFF

# Plain numbers: an operation on the socket module's own flags takes half a microsecond.
_TRUNCATED = int(MSG_TRUNC)
_DROPPED = int(MSG_CTRUNC)
_NOT_WHOLE = _TRUNCATED | _DROPPED

#: Whether the kernel says of a message whose descriptor it has dropped that it did so.
_SAYS_DROPPED = sys.platform == "linux"

#: Seconds until a send that the kernel refused for want of memory or of in-flight
#: descriptors is tried again: nothing wakes us when there is room.
RETRY_SECONDS = 0.01

#: How many acknowledgements that take nothing the other end may send: one for each change
#: of its window, of which there are some dozens a second.  What a primary that was suspended
#: finds at once is no more than fits into the socket.
IDLE_ACKS_PER_SECOND = 1000
IDLE_ACKS_AT_ONCE = 4096


@implementer(IHandoffSender)
class HandoffChannel:
    """
    One end.

    What the other end says is checked before it is acted upon.  An end that breaks the
    protocol is reported once (:meth:`IHandoffReceiver.broken`), and not listened to any more.

    :ivar in_flight: what was sent and is neither acknowledged nor NACKed, oldest first.
    """

    _log = Logger()

    def __init__(
        self,
        readiness: IReadiness,
        clock: IReactorTime,
        sock: socket,
        receiver: IHandoffReceiver,
        window: Callable[[], int],
        admit: Callable[[Handoff], object] = lambda handoff: None,
        max_window: int = 0xFFFF,
    ) -> None:
        """
        :param sock: a non-blocking ``SOCK_SEQPACKET`` socket, closed by the channel.
        :param window: asked at each acknowledgement how many handoffs the other end
            may have under way to us.
        :param admit: checks each handoff that comes; raises :exc:`FrameError` for one that
            the other end may not send.
        :param max_window: the most that the other end may allow us.
        """
        self._readiness = readiness
        self._clock = clock
        self._socket = sock
        self._receiver = receiver
        self._window = window
        self._admit = admit
        self._max_window = max_window
        self._idle_acks = Allowance(clock.seconds, IDLE_ACKS_PER_SECOND, IDLE_ACKS_AT_ONCE)
        self._buffer = bytearray(MAX_FRAME_BYTES)
        self.in_flight: deque[Handoff] = deque()
        self._sequence = 0
        self._their_window = 0
        self._taken = 0
        self._announced = -1
        # The highest number that a handoff to us may have, by all windows that we told.
        self._last_allowed = 0
        self._untold: list[Handoff] = []
        self._owed: deque[bytes] = deque()
        self._waiting_for_room = False
        self._writing = False
        self._paying_later = False
        # Reading pauses; reading is over.
        self._resting = False
        self._at_end = False
        self._broken = False
        self._open = True

    def open(self) -> None:
        """
        Begin: read, and tell the other end our window.
        """
        self._readiness.add_reader(self._socket.fileno(), self._readable)
        self.announce()

    # a primary that replaces itself

    @property
    def quiet(self) -> bool:
        """
        Whether all that was received is passed on, all that is owed is sent, and the other
        end has not closed.
        """
        return self._open and not (self._owed or self._untold or self._at_end)

    def dump_state(self) -> dict[str, Any]:
        """
        The state as JSON can carry it; only while :attr:`quiet`.  Nothing is closed.
        """
        return {
            "descriptor": self._socket.fileno(),
            "sequence": self._sequence,
            "taken": self._taken,
            "window": self._their_window,
            "last_allowed": self._last_allowed,
            "in_flight": [handoff.dump_state(self._clock.seconds()) for handoff in self.in_flight],
        }

    def restore_state(self, state: dict[str, Any]) -> None:
        """
        Go on where another object left off; instead of :meth:`open`.

        :param state: what its :meth:`dump_state` gave.
        """
        self._sequence = state["sequence"]
        self._taken = state["taken"]
        self._their_window = state["window"]
        # An older version does not write it down.
        self._last_allowed = state.get("last_allowed", self._taken + 0xFFFF)
        now = self._clock.seconds()
        self.in_flight.extend(Handoff.from_state(each, now) for each in state["in_flight"])
        self._readiness.add_reader(self._socket.fileno(), self._readable)
        # Our window may differ from that of the primary that we replace.
        self._owe_ack()
        self._pay()

    # sending connections

    @property
    def sent(self) -> int:
        """
        How many handoffs were sent so far.
        """
        return self._sequence

    def send(self, handoff: Handoff) -> bool:
        """
        Pass a connection on; see :meth:`stickyd.interfaces.IHandoffSender.send`.

        When it returns :obj:`False`, ``receiver.room()`` is called once there is room.
        """
        if len(self.in_flight) >= self._their_window or not self._open:
            return False
        sequence = self._sequence + 1
        handoff.sequence = sequence
        try:
            send_rights(self._socket, encode_handoff(handoff), handoff.descriptor)
        except BlockingIOError:
            self._wait_until_writable()
            return False
        except OSError as problem:
            if problem.errno in SHORTAGES:
                self._wait_a_moment()
            elif problem.errno not in CLOSED:
                self._log.error(
                    "A connection could not be passed on: {problem}",
                    event="handoff.not-passed",
                    problem=problem,
                )
                self._wait_a_moment()
            # Of a receiver that is dead we hear by its EOF, and reclaim() follows.
            return False
        self._sequence = sequence
        self.in_flight.append(handoff)
        return True

    def _wait_until_writable(self) -> None:
        self._waiting_for_room = True
        self._start_writing()

    def _wait_a_moment(self) -> None:
        if not self._waiting_for_room:
            self._waiting_for_room = True
            self._clock.callLater(RETRY_SECONDS, self._moment_over)

    def _moment_over(self) -> None:
        self._waiting_for_room = False
        if self._open:
            self._receiver.room()

    # acknowledging

    def announce(self) -> None:
        """
        Tell the other end our window, if it is not what we said last.
        """
        if self._open and self._window() != self._announced:
            self._owe_ack()
            self._pay()

    def _owe_ack(self) -> None:
        taken = self._taken
        self._announced = window = self._window()
        if taken + window > self._last_allowed:
            self._last_allowed = taken + window
        self._owed.append(encode_ack(taken, window))

    def _pay(self) -> None:
        """
        Send what we owe; only then hand over what it acknowledges.
        """
        owed = self._owed
        while owed:
            try:
                self._socket.send(owed[0])
            except BlockingIOError:
                self._start_writing()
                return
            except OSError as problem:
                if problem.errno not in CLOSED and not self._paying_later:
                    self._paying_later = True
                    self._clock.callLater(RETRY_SECONDS, self._pay_if_open)
                # Else the other end has closed.  What it did not hear to be taken it may
                # still serve, so we must not: reclaim() decides, when it is surely dead.
                return
            owed.popleft()
        if self._untold:
            self._tell_received()

    def _tell_received(self) -> None:
        taken, self._untold = self._untold, []
        for handoff in taken:
            try:
                self._receiver.received(handoff)
            except Exception:  # noqa: BLE001 (one connection's trouble is not the others')
                self._log.failure(
                    "A connection of {host} could not be taken",
                    event="handoff.not-taken",
                    host=handoff.host,
                )

    def _pay_if_open(self) -> None:
        self._paying_later = False
        if self._open:
            self._pay()

    # reading

    def _readable(self) -> None:
        taken = self._taken
        alive = self._read(BATCH)
        if self._taken != taken:
            # Behind the NACKs of the same batch, so that it does not take those.
            self._owe_ack()
            self._pay()
        if not alive and self._open and not self._at_end:
            self._at_end = True
            self._readiness.remove_reader(self._socket.fileno())
            if not self._broken:
                self._receiver.lost()

    def _read(self, most: int) -> bool:
        """
        Read up to ``most`` messages.

        :return: :obj:`False` at the end: the other end has closed, or broke the protocol.
        """
        for _ in range(most):
            try:
                size, flags, descriptors = receive_rights(self._socket, self._buffer)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                # The other end died with unread messages of ours.  The kernel says so
                # once; what it had sent before is still there to be read.
                continue
            except OSError as problem:
                self._pause_reading(problem)
                return True
            if not size:
                return False
            try:
                self._message(size, flags, descriptors)
            except FrameError as problem:
                for descriptor in descriptors:
                    os.close(descriptor)
                if not self._broken:
                    self._broken = True
                    self._receiver.broken(str(problem))
                # Once the process has ended, its acknowledgements still count.
                if most <= BATCH:
                    return False
        return True

    def _pause_reading(self, problem: OSError) -> None:
        """
        Stop reading for a moment: the socket stays readable, and reading on would spin.
        """
        if problem.errno not in SHORTAGES:
            self._log.error(
                "A handoff channel could not be read: {problem}",
                event="handoff.unreadable",
                problem=problem,
            )
        if self._open and not self._resting:
            self._resting = True
            self._readiness.remove_reader(self._socket.fileno())
            self._clock.callLater(RETRY_SECONDS, self._resume_reading)

    def _resume_reading(self) -> None:
        self._resting = False
        if self._open and not self._at_end:
            self._readiness.add_reader(self._socket.fileno(), self._readable)

    def _message(self, size: int, flags: int, descriptors: list[int]) -> None:
        header = read_header(self._buffer, size)
        _, kind, _, _, _, _, _, sequence, window = header
        if kind == _HANDOFF:
            if sequence != self._taken + 1 or sequence > self._last_allowed:
                raise self._out_of_order(sequence)
            if len(descriptors) != 1 or flags & _NOT_WHOLE:
                self._not_whole(sequence, flags, descriptors)
                return
            handoff = decode_handoff(self._buffer, size, descriptors[0], header)
            self._admit(handoff)
            self._untold.append(handoff)
            self._taken = sequence
        elif descriptors:
            raise FrameError(f"a descriptor beside a {KIND_NAMES[kind]}")
        elif kind == Kind.ACK:
            self._acknowledge(sequence, window)
        else:
            self._refused(sequence)

    def _out_of_order(self, sequence: int) -> FrameError:
        if sequence != self._taken + 1:
            return FrameError(f"handoff {sequence}, where {self._taken + 1} was due")
        return FrameError(
            f"handoff {sequence}, where {self._last_allowed} was the last that our window allowed"
        )

    def _not_whole(self, sequence: int, flags: int, descriptors: list[int]) -> None:
        """
        Ask again for a handoff whose descriptor the kernel had no room for in our table.

        :raise FrameError: if it is not the kernel that dropped it.
        """
        if flags & _TRUNCATED:
            raise FrameError(f"a frame of more than {MAX_FRAME_BYTES} bytes")
        if len(descriptors) > 1:
            raise FrameError(f"handoff {sequence} with {len(descriptors)} descriptors")
        if not descriptors and not flags & _DROPPED and _SAYS_DROPPED:
            raise FrameError(f"handoff {sequence} without a descriptor")
        for descriptor in descriptors:
            os.close(descriptor)
        self._taken = sequence
        self._owed.append(encode_nack(sequence))
        self._receiver.starved()

    def _acknowledge(self, sequence: int, window: int) -> None:
        if sequence > self._sequence:
            raise FrameError(f"an ACK of {sequence}, where {self._sequence} was the last sent")
        if window > self._max_window:
            raise FrameError(f"a window of {window}, where {self._max_window} is the most")
        in_flight = self.in_flight
        if not (in_flight and in_flight[0].sequence <= sequence) and not self._idle_acks.take():
            raise FrameError(
                f"more than {IDLE_ACKS_PER_SECOND} acknowledgements a second that take nothing"
            )
        while in_flight and in_flight[0].sequence <= sequence:
            os.close(in_flight.popleft().descriptor)
        self._their_window = window
        if self._open:
            # Without a window too: somebody may wait until nothing is in flight.
            self._receiver.room()

    def _refused(self, sequence: int) -> None:
        for handoff in self.in_flight:
            if handoff.sequence == sequence:
                self.in_flight.remove(handoff)
                handoff.refusals += 1
                self._receiver.returned(handoff)
                return
        raise FrameError(f"a NACK of {sequence}, which is not in flight")

    # writing when the socket has room again

    def _start_writing(self) -> None:
        if not self._writing:
            self._writing = True
            self._readiness.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        self._writing = False
        self._readiness.remove_writer(self._socket.fileno())
        self._pay()
        if self._waiting_for_room and not self._writing:
            self._waiting_for_room = False
            self._receiver.room()

    # the end

    def reclaim(self) -> list[Handoff]:
        """
        Close the channel; see :meth:`stickyd.interfaces.IHandoffSender.reclaim`.
        """
        if not self._open:
            return []
        # Acknowledgements may still be in the socket; a connection that the dead worker
        # had begun to read must not be served again.
        self._read(sys.maxsize)
        self._open = False
        self._readiness.remove_reader(self._socket.fileno())
        if self._writing:
            self._readiness.remove_writer(self._socket.fileno())
        self._socket.close()
        # Our owner is part of a cycle, which the collector may leave for long.
        self._buffer = bytearray()
        self._tell_received()
        unacknowledged = list(self.in_flight)
        self.in_flight.clear()
        return unacknowledged
