# mypy: allow-untyped-calls
# (h2 is not annotated throughout.)
"""
HTTP/2: what goes to the client.

Theory of operation.  Frames gather in h2's buffer and leave together: at the end of the input
that they answer (a *cork*), or in the next turn of the loop.  So a response that is whole at once
is one write: its head, its data and its end.  The data of responses waits in a queue for each
stream until the windows of the client have room; the schedule says whose turn it is, and a few
frames are sent in one turn of the loop, so that a busy connection does not starve the others.
While the transport has no room nothing is sent at all.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from h2.exceptions import StreamClosedError
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from stickyd.serve.http2.response_queue import LOW_WATER_BYTES, ResponseQueue
from stickyd.serve.http2.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.serve.http2.strict import StrictConnection

    Pairs = list[tuple[bytes, bytes]]

#: How many frames of data are sent in one turn; most hold 16 KiB.
_FRAMES = 4

#: The largest of them, even if the client takes larger ones: others shall have their turns.
_FRAME_BYTES = 65536


@implementer(IPushProducer)
class HTTP2Output:
    """
    Sends on one connection.

    :ivar sent: how many frames of responses were sent.
    :ivar paused: the transport has no room.
    :ivar held_bytes: how much waits for that room, beside the data of responses.
    """

    def __init__(
        self,
        conn: StrictConnection,
        write: Callable[[bytes], object],
        clock: IReactorTime,
        response_sent: Callable[[int], object],
        data_sent: Callable[[], object],
        window_closed: Callable[[int], object],
    ) -> None:
        """
        :param write: gives bytes to the transport.
        :param response_sent: called with a stream whose whole response was sent.
        :param data_sent: called for each frame of data.
        :param window_closed: called with a stream that has data, and no room for it.
        """
        self._conn = conn
        self._write = write
        self._clock = clock
        self._response_sent = response_sent
        self._data_sent = data_sent
        self._window_closed = window_closed
        self._queues: dict[int, ResponseQueue] = {}
        self._schedule = Schedule()
        self._corked = False
        self._call: IDelayedCall | None = None
        self._held = bytearray()
        self.sent = 0
        self.paused = False

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    @property
    def waits(self) -> bool:
        """
        Whether something waits for room, with the client or in the transport.
        """
        return self.paused or any(self._queues.values())

    # Streams.

    def open(
        self, number: int, priority: tuple[int, bool], drained: Callable[[], object]
    ) -> ResponseQueue:
        """
        Begin with a stream.

        :param drained: called whenever little of its body waits.
        :return: where its body waits.
        """
        queue = self._queues[number] = ResponseQueue(drained)
        self._schedule.add(number, priority)
        return queue

    def forget(self, number: int) -> None:
        """
        Send no more of a stream.
        """
        queue = self._queues.pop(number, None)
        if queue is not None:
            queue.discard()
            self._schedule.remove(number)

    def put_head(self, number: int, fields: Pairs, end: bool = False) -> None:
        """
        Send the head of a response.
        """
        with suppress(StreamClosedError):  # by the client; we hear of it in a moment
            self._conn.send_headers(number, fields, end_stream=end)
        self.send_soon()

    def put(self, number: int, data: bytes) -> None:
        """
        Send some of a response.
        """
        self._queues[number].put(data)
        self._go_on(number)

    def end(self, number: int) -> None:
        """
        Send the end of a response.
        """
        self._queues[number].ended = True
        self._go_on(number)

    def acknowledge(self, number: int, count: int) -> None:
        """
        Open the client's window by what was consumed of a request's body.
        """
        if count:
            self._conn.acknowledge_received_data(count, number)
            self.send_soon()

    def window_opened(self, number: int) -> None:
        """
        Go on with a stream whose window has become wider; with all, if it is 0.
        """
        for each in [number] if number else list(self._queues):
            if each in self._queues:
                self._go_on(each)

    def is_blocked(self, number: int) -> bool:
        """
        Whether a stream has data, and no room for it.
        """
        return self._queues[number].size > 0 and self._conn.local_flow_control_window(number) <= 0

    def _go_on(self, number: int) -> None:
        queue = self._queues[number]
        if not queue:
            return
        if not queue.size or self._conn.local_flow_control_window(number) > 0:
            self._schedule.ready(number)
            self.send_soon()
        else:
            self._window_closed(number)

    # Sending.

    def cork(self) -> None:
        """
        Gather what is sent until :meth:`uncork`.
        """
        self._corked = True

    def uncork(self) -> None:
        """
        Send what was gathered.
        """
        self._corked = False
        self._pump()

    def send_soon(self) -> None:
        """
        Have what waits sent: by the one who has the cork, or in the next turn.
        """
        if not self._corked and self._call is None:
            self._call = self._clock.callLater(0, self._pump_again)

    def _pump_again(self) -> None:
        self._call = None
        self._pump()

    def _pump(self) -> None:
        for _ in range(_FRAMES):
            number = None if self.paused else self._schedule.next()
            if number is None:
                break
            self._send_frame(number)
        else:
            if self._schedule.next() is not None:
                self.send_soon()
        self.flush()

    def _send_frame(self, number: int) -> None:
        conn = self._conn
        queue = self._queues[number]
        window = max(0, conn.local_flow_control_window(number))
        data = queue.take(min(conn.max_outbound_frame_size, window, _FRAME_BYTES))
        last = queue.ended and not queue.size
        self.sent += 1
        if data:
            conn.send_data(number, data, end_stream=last)
            self._data_sent()
        elif last:
            conn.end_stream(number)
        if last:
            self.forget(number)
            self._response_sent(number)
            return
        if not queue.size:
            self._schedule.block(number)
        elif len(data) >= window:
            self._schedule.block(number)
            self._window_closed(number)
        if queue.drained is not None and queue.size <= LOW_WATER_BYTES:
            queue.drained()

    def flush(self) -> None:
        """
        Give the transport what it has room for.
        """
        data = self._conn.data_to_send()
        if not data:
            return
        if self.paused:
            self._held += data
        else:
            self._write(data)

    # As the producer of the transport.

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Send nothing for now: the transport has no room.
        """
        self.paused = True

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Go on: it has room again.
        """
        self.paused = False
        if self._held:
            held = bytes(self._held)
            self._held.clear()
            self._write(held)
        if not self.paused:
            self._pump()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        The transport is gone, which the connection is told too.
        """

    def close(self) -> None:
        """
        Write what the client must still be told, whatever room there is, and nothing after it.
        """
        for number in list(self._queues):
            self.forget(number)
        if self._call is not None:
            self._call.cancel()
            self._call = None
        data = bytes(self._held) + self._conn.data_to_send()
        self._held.clear()
        if data:
            self._write(data)
