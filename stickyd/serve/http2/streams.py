# mypy: allow-untyped-calls
# (h2 is not annotated throughout.)
"""
The streams under way on an HTTP/2 connection: what feeds them, and what ends each of them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from stickyd.serve.http.head import RequestError
from stickyd.serve.http2.output import HTTP2Output
from stickyd.serve.http2.stall import StallWatch
from stickyd.serve.under_way import request_under_way

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.serve.http.context import HTTPContext
    from stickyd.serve.http2.stream import HTTP2Stream
    from stickyd.serve.http2.strict import StrictConnection
    from stickyd.serve.under_way import UnderWay

#: The key of the whole connection among the streams, whose numbers begin with 1.
_CONNECTION = 0


class Streams:
    """
    Keeps the streams of one connection, from their first byte to their last.

    :ivar by_number: those under way.
    :ivar output: what sends their responses.
    """

    def __init__(
        self,
        conn: StrictConnection,
        context: HTTPContext,
        write: Callable[[bytes], object],
        data_sent: Callable[[], object],
        emptied: Callable[[], object],
    ) -> None:
        """
        :param write: gives bytes to the transport.
        :param data_sent: called for each frame of data that was sent.
        :param emptied: called when the last stream under way has ended.
        """
        self.by_number: dict[int, HTTP2Stream] = {}
        self.output = HTTP2Output(
            conn, write, context.clock, self._response_sent, data_sent, self._window_closed
        )
        self._conn = conn
        self._context = context
        self._emptied = emptied
        self._stalls = StallWatch()
        self._input_over = False  # the client has shut its sending side down

    def __bool__(self) -> bool:
        """
        Whether any is under way.
        """
        return bool(self.by_number)

    def __iter__(self) -> Any:
        """
        Those that are under way now, whatever becomes of them meanwhile.
        """
        return iter(list(self.by_number.values()))

    @property
    def unanswered(self) -> list[Any]:
        """
        The requests whose responses have not begun.
        """
        requests = [stream.request for stream in self.by_number.values()]
        return [request for request in requests if not request.startedWriting]

    def under_way(self) -> list[UnderWay]:
        """
        All requests, for operators.
        """
        return [
            request_under_way(stream.begun_ns, stream.message, stream.request)
            for stream in self.by_number.values()
            if stream.begun_ns
        ]

    # What the client sends on them.

    def begin(self, stream: HTTP2Stream, body: bool) -> None:
        """
        Have a stream's request answered.

        :param body: whether the client has more to send than the head.
        """
        self.by_number[stream.number] = stream
        stream.begin(body, self._context.deadlines.now)

    def receive(self, number: int, data: bytes, window: int) -> None:
        """
        Get a piece of a request's body.

        :param window: what it took of the client's window, in bytes.
        """
        stream = self.by_number.get(number)
        if stream is None:
            # Answered already: what comes is dropped, but counts.
            self.output.acknowledge(number, window)
            return
        most = self._context.limits.body_bytes
        stream.size += len(data)
        stream.heard = self._context.deadlines.now
        if most is not None and stream.size > most:
            self.refuse(stream, 413)
            return
        try:
            stream.receive(data, window)
        except RequestError as error:
            self.refuse(stream, error.status)

    def receive_end(self, number: int) -> None:
        """
        Learn that a request is whole.
        """
        stream = self.by_number.get(number)
        if stream is not None:
            stream.receive_end()

    def receive_reset(self, number: int, code: object) -> None:
        """
        Learn that a stream was reset, by the client or for a mistake of the client's.
        """
        stream = self.by_number.get(number)
        if stream is not None:
            self.lose(stream, Failure(ConnectionLost(f"the stream was reset with {code}")))

    def input_over(self) -> None:
        """
        Learn that the client sends no more: what it has asked for is answered, as far as its
        windows have room.
        """
        self._input_over = True
        for stream in self:
            if not stream.whole:
                self.lose(stream, Failure(ConnectionLost("the request has no end")))
            elif self.output.is_blocked(stream.number):
                self._window_closed(stream.number)

    def _window_closed(self, number: int) -> None:
        if self._input_over:
            # Nobody will open it again.
            self._conn.reset_stream(number, ErrorCodes.CANCEL)
            self.lose(self.by_number[number], Failure(ConnectionLost("the window is closed")))

    # Their ends.

    def answer_shortly(self, number: int, status: int, whole: bool) -> None:
        """
        Answer a request that is not good enough to be one.

        :param whole: whether the client has sent all of it.
        """
        fields = [(b":status", b"%d" % status), (b"content-length", b"0")]
        self.output.put_head(number, fields, end=True)
        stream = self.by_number.get(number)
        if stream is None:
            self._context.counts.refuse(status)
        else:
            stream.count_end(status)
        if not whole:
            self._stop_upload(number)

    def refuse(self, stream: HTTP2Stream, status: int) -> None:
        """
        Break a request off, and say why if nothing is said yet.
        """
        if stream.request.startedWriting:
            self._conn.reset_stream(stream.number, ErrorCodes.CANCEL)
        else:
            self.answer_shortly(stream.number, status, stream.whole)
        self.lose(stream, Failure(ConnectionLost(f"the request was refused with {status}")))

    def abort(self, stream: HTTP2Stream) -> None:
        """
        Break a response off.  NO_ERROR would make half of it look like a whole one.
        """
        self._conn.reset_stream(stream.number, ErrorCodes.INTERNAL_ERROR)
        stream.close()
        self._forget(stream.number)

    def lose(self, stream: HTTP2Stream, reason: Failure) -> None:
        """
        Go on without a stream that the client has given up, or shall.
        """
        self.output.forget(stream.number)
        stream.lose(reason)
        self._forget(stream.number)

    def lose_all(self, reason: Failure) -> None:
        """
        Go on without any.
        """
        for stream in self:
            self.lose(stream, reason)

    def end_event_streams(self) -> None:
        """
        End the responses that are event streams: their applications are told that the client
        is gone, the client that the streams are over.
        """
        for stream in self:
            if getattr(stream.request, "streams_events", False):
                stream.finish_early(Failure(ConnectionDone("The server stops.")))

    def _response_sent(self, number: int) -> None:
        stream = self.by_number[number]
        if not stream.whole:
            # Answered before its body was here: the client need not send it (RFC 9113, 8.1).
            self._stop_upload(number)
        stream.close()
        self._forget(number)

    def _stop_upload(self, number: int) -> None:
        """
        Tell the client to send no more of a request that is answered.
        """
        # Its end may have come with what we are acting on, and then the stream is closed.
        with suppress(StreamClosedError):
            self._conn.reset_stream(number, ErrorCodes.NO_ERROR)

    def _forget(self, number: int) -> None:
        self.output.forget(number)
        self._stalls.forget(number)
        if self.by_number.pop(number, None) is not None and not self.by_number:
            self._emptied()
            self.output.send_soon()

    # Those that take too long.

    def refuse_slow_uploads(self) -> None:
        """
        Break off the requests whose bodies have not moved for too long.
        """
        limit = self._context.limits.body
        if limit is not None:
            since = self._context.deadlines.now - limit
            for stream in self:
                if stream.waits_for_client and stream.heard <= since:
                    self.refuse(stream, 408)

    def give_up_stalled(self) -> bool:
        """
        Give up the responses of which the client has taken nothing for too long.

        :return: whether it has taken nothing at all of the connection, so that this is to be
            cut off.
        """
        limit = self._context.limits.stall
        if limit is None:
            return False
        now, output = self._context.deadlines.now, self.output
        if self._stalls.seconds(_CONNECTION, output.waits, output.sent, now) >= limit:
            return True
        for stream in self:
            queue = stream.queue
            if self._stalls.seconds(stream.number, bool(queue), queue.taken, now) >= limit:
                self._conn.reset_stream(stream.number, ErrorCodes.CANCEL)
                self.lose(stream, Failure(ConnectionLost("the client takes nothing")))
        output.send_soon()
        return False
