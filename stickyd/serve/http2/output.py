# mypy: allow-untyped-calls
# (Twisted's HTTP/2 is not annotated.)
"""
HTTP/2: the sending of responses, as the windows of the client allow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from priority import DeadlockError
from twisted.internet.defer import Deferred
from twisted.web._http2 import _END_STREAM_SENTINEL, H2Connection
from typing_extensions import override

if TYPE_CHECKING:
    from stickyd.serve.http2.stream import HTTP2Stream
    from stickyd.serve.http2.strict import StrictConnection

#: How many frames of data are sent in one turn; most hold 16 KiB.
_FRAMES = 4


class Sending(H2Connection):
    """
    Sends in several frames a turn, and nothing into a closed window.

    :ivar sent: how many frames of responses were sent.
    """

    conn: StrictConnection
    streams: dict[int, HTTP2Stream]
    transport: Any  # TlsTransport, whose methods are not annotated
    sent = 0

    @override
    def _sendPrioritisedData(self, *ignored: object) -> None:
        """
        Send what there is to send, several frames in a turn.

        Twisted's own sends one, and spins as long as the client's window is closed.
        """
        for _ in range(_FRAMES):
            if not self._stillProducing:
                return
            try:
                number = next(self.priority)
            except DeadlockError:
                self._sendingDeferred = Deferred()
                self._sendingDeferred.addCallback(self._sendPrioritisedData)
                return
            if self._consumerBlocked is not None:
                self._consumerBlocked.addCallback(self._sendPrioritisedData)
                return
            self._send_frame(number)
        self._reactor.callLater(0, self._sendPrioritisedData)

    def _window_opened(self, event: Any) -> None:
        """
        Go on with the streams that a wider window concerns.
        """
        number = getattr(event, "stream_id", 0)
        for stream in list(self.streams.values()):
            if number in (0, stream.streamID):
                stream.windowUpdated()
                if self._outboundStreamQueues.get(stream.streamID):
                    self.priority.unblock(stream.streamID)
        waiting, self._sendingDeferred = self._sendingDeferred, None
        if waiting is not None:
            waiting.callback(None)

    def _send_frame(self, number: int) -> None:
        queue = self._outboundStreamQueues[number]
        data = queue.popleft()
        self.sent += 1
        if data is _END_STREAM_SENTINEL:
            self.conn.end_stream(number)
            self.transport.write(self.conn.data_to_send())
            self._requestDone(number)
            return
        room = min(self.conn.max_outbound_frame_size, self.conn.local_flow_control_window(number))
        if len(data) > room:
            # A view: a large piece is not to be copied once for each of its frames.
            view = memoryview(data)
            queue.appendleft(view[max(room, 0) :])
            data = view[: max(room, 0)]
        if data:
            self.conn.send_data(number, bytes(data))
            self.transport.write(self.conn.data_to_send())
        if number in self.streams:
            ends = bool(queue) and queue[0] is _END_STREAM_SENTINEL
            if not queue or (self.conn.local_flow_control_window(number) <= 0 and not ends):
                self.priority.block(number)
            if self.remainingOutboundWindow(number) <= 0:
                self.streams[number].flowControlBlocked()
