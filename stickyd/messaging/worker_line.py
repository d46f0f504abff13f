"""
A worker's way to the other workers: through the primary.

Theory of operation.  What is published or subscribed, in whatever thread, is put at the end of
one list.  The loop takes the whole list in its next turn: the frames go to the primary with one
system call, and then the messages to our own subscribers, which so get them in the same order as
everybody else without the primary.  What the primary sends goes to them as it comes in.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from twisted.logger import Logger
from zope.interface import implementer

from stickyd.confirmation import Confirmation
from stickyd.errors import BusClosed, BusFull, FrameError
from stickyd.messaging.frame import (
    PUBLISH,
    FrameBuffer,
    Kind,
    encode,
    encode_number,
    number_in,
    payload_in,
)
from stickyd.messaging.interfaces import IBusLine
from stickyd.messaging.queue import QUEUE_BYTES, QUEUE_MESSAGES, SendQueue

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from stickyd.interfaces import IReadiness
    from stickyd.messaging.frame import Frame
    from stickyd.messaging.interfaces import Deliver

_READ_BYTES = 65_536


@implementer(IBusLine)
class WorkerLine:
    """
    Our end of the bus's socket.

    Made in the loop's thread, and used there unless a method says otherwise.

    :ivar fleet: the name of our fleet; empty until the primary has told it.
    """

    _log = Logger()

    def __init__(
        self,
        readiness: IReadiness,
        call_from_thread: Callable[..., object],
        sock: socket.socket,
        deliver: Deliver,
        closed: Callable[[str], object],
        greeted: Callable[[bytes], object] = lambda fleet: None,
    ) -> None:
        """
        :param call_from_thread: calls in the loop's thread what another one wants called.
        :param sock: non-blocking; closed with the line.
        :param deliver: hands a message to our subscribers; never raises.
        :param closed: called, with the reason, when the primary has ended our bus.
        :param greeted: called when the primary has told the name of our fleet.
        """
        self._readiness = readiness
        self._call_from_thread = call_from_thread
        self._socket = sock
        self._deliver = deliver
        self._closed = closed
        self._greeted = greeted
        self._loop_thread = threading.get_ident()
        self._frames = FrameBuffer()
        self._queue = SendQueue(sock)
        self._writing = False
        self.fleet = b""
        # Of every thread, with the lock.
        self._lock = threading.Lock()
        self._said: list[tuple[bytes, bytes, bytes | None]] = []
        self._said_bytes = 0
        self._scheduled = False
        self._reason = ""
        self._number = 0
        self._syncs: deque[tuple[int, Confirmation]] = deque()
        readiness.add_reader(sock.fileno(), self._readable)

    # from every thread

    def publish(self, name: bytes, data: bytes) -> None:
        frame = encode(Kind.PUBLISH, name, data)
        with self._lock:
            if self._reason:
                raise BusClosed(self._reason)
            count = len(self._said) + self._queue.count
            size_bytes = self._said_bytes + self._queue.size_bytes + len(frame)
            if count >= QUEUE_MESSAGES or (size_bytes > QUEUE_BYTES and count):
                raise BusFull(
                    f"{count} messages ({size_bytes} bytes) wait to be sent, and {QUEUE_MESSAGES}"
                    f" ({QUEUE_BYTES} bytes) are the most: await bus.sync() now and then"
                )
            self._say(frame, name, data)

    def subscribe(self, name: bytes) -> None:
        with self._lock:
            self._say(encode(Kind.SUBSCRIBE, name), name, None)

    def unsubscribe(self, name: bytes) -> None:
        with self._lock:
            self._say(encode(Kind.UNSUBSCRIBE, name), name, None)

    def tell_lost(self, count: int) -> None:
        """
        Have the primary count messages that were lost between machines.
        """
        with self._lock:
            self._say(encode_number(Kind.LOST, count), b"", None)

    def sync(self) -> Confirmation:
        synced = Confirmation()
        with self._lock:
            reason = self._reason
            if not reason:
                self._number += 1
                self._syncs.append((self._number, synced))
                self._say(encode_number(Kind.SYNC, self._number), b"", None)
        if reason:
            synced.settle(BusClosed(reason))
        return synced

    def _say(self, frame: bytes, name: bytes, data: bytes | None) -> None:
        """
        Called with the lock.
        """
        self._said.append((frame, name, data))
        self._said_bytes += len(frame)
        if not self._scheduled:
            self._scheduled = True
            if threading.get_ident() == self._loop_thread:
                self._readiness.call_soon(self._turn)
            else:
                self._call_from_thread(self._turn)

    # in the loop's thread

    def _turn(self) -> None:
        """
        Send, and deliver to our own, what was said since the turn before.
        """
        with self._lock:
            said, self._said, self._said_bytes = self._said, [], 0
            self._scheduled = False
            if not self._reason:
                for frame, _, _ in said:
                    # For messages there is room: publish() has looked.
                    self._queue.push(frame)
        if not self._writing and not self._reason:
            self._write()
        for _, name, data in said:
            if data is not None:
                self._deliver(name, data)

    def _write(self) -> None:
        try:
            with self._lock:
                sent = self._queue.send()
        except OSError:
            # The end of file says so too, behind what is still to be read.
            self._queue.clear()
            sent = True
        if sent is self._writing:
            self._writing = not sent
            if sent:
                self._readiness.remove_writer(self._socket.fileno())
            else:
                self._readiness.add_writer(self._socket.fileno(), self._write)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose("the primary has ended the bus of this worker; its log says why")
            return
        try:
            for frame in self._frames.feed(data):
                self._act(frame)
        except FrameError as problem:
            self._log.error(
                "The bus is ended: the primary has sent {problem}",
                event="bus.broken",
                problem=problem,
            )
            self._lose(f"the primary has sent {problem}")

    def _act(self, frame: Frame) -> None:
        kind = frame[0]
        if kind == PUBLISH:
            self._deliver(frame[1], payload_in(frame))
        elif kind == Kind.SYNC:
            self._settle(number_in(frame))
        elif kind == Kind.HELLO:
            self.fleet = payload_in(frame)
            self._greeted(self.fleet)
        else:
            raise FrameError(f"a frame of the kind {Kind(kind).name}, which is a worker's")

    def _settle(self, number: int, problem: Exception | None = None) -> None:
        while self._syncs and self._syncs[0][0] <= number:
            self._syncs.popleft()[1].settle(problem)

    def _lose(self, reason: str) -> None:
        if not self._reason:
            self.close(reason)
            self._closed(reason)

    @property
    def idle(self) -> bool:
        """
        Whether all that was said has been sent.
        """
        return not self._said and not self._queue.count

    def close(self, reason: str) -> None:
        """
        Say and hear nothing any more.

        :param reason: what whoever publishes later is told.
        """
        with self._lock:
            if self._reason:
                return
            self._reason = reason
            self._queue.clear()
        self._readiness.remove_reader(self._socket.fileno())
        if self._writing:
            self._writing = False
            self._readiness.remove_writer(self._socket.fileno())
        self._socket.close()
        self._settle(self._number, BusClosed(reason))
