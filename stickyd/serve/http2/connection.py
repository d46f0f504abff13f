# mypy: allow-untyped-calls
# (h2 is not annotated throughout.)
"""
An HTTP/2 connection, for Twisted resources and WSGI.

h2 has the rules, in :class:`StrictConnection`; :class:`HTTP2Output` sends; an
:class:`HTTP2Stream` is what a request knows of it all.  Here are the states: who may begin a
stream, what ends one, and what ends the connection.
"""

from __future__ import annotations

from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    UnknownFrameReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from stickyd.affinity.peek.http2 import head_of
from stickyd.net.allowance import Allowance
from stickyd.serve.http.head import RequestError
from stickyd.serve.http2.context import ConnectionContext
from stickyd.serve.http2.objection import objection_to
from stickyd.serve.http2.output import HTTP2Output
from stickyd.serve.http2.stall import StallWatch
from stickyd.serve.http2.stream import HTTP2Stream
from stickyd.serve.http2.strict import StrictConnection
from stickyd.serve.open_connections import tell_ended
from stickyd.serve.served_connection import IServedConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.site import HTTPSite
    from stickyd.serve.http2.begun import Begun

    Pairs = list[tuple[bytes, bytes]]

#: Asks the client for an answer that shows that it has read our GOAWAY.
_HEARD = b"farewell"

#: How many streams may be reset at once, and in each second on average.
RESETS = 200
RESETS_A_SECOND = 33.0

#: The same of frames that do nothing: PINGs, settings, priorities, windows that hardly open,
#: DATA without data.  What does something allows some more.
IDLE_FRAMES = 1000
IDLE_FRAMES_A_SECOND = 100.0
IDLE_FRAMES_A_REQUEST = 10
IDLE_FRAMES_A_DATA_FRAME = 4

#: How much of our own control frames may wait for a client that reads none.
MOST_HELD_BYTES = 1 << 20

#: Seconds between two lines in the log about proxies that mix their clients.
QUIET_SECONDS = 600.0


class _State(IntEnum):
    """
    How far a connection is on its way to its end.
    """

    OPEN = 0
    #: The client was asked to begin no more streams; those that it begins are served.
    WARNED = 1
    #: It begins no more.
    PARTING = 2
    #: Nothing more is read.
    CLOSING = 3


@implementer(IServedConnection, IPushProducer, IHalfCloseableProtocol)
class HTTP2Connection(Protocol):
    """
    Serves one connection.

    :ivar deadline: the timer's.
    :ivar bucket: the timer's.
    :ivar streams: those under way, by number.
    """

    _log = Logger()

    descriptors = 1
    transport: Any  # TlsTransport, whose methods are not annotated

    def __init__(
        self, site: HTTPSite, handoff: Handoff | None = None, begun: Begun | None = None
    ) -> None:
        """
        :param handoff: the handoff that brought the connection, if one did.
        :param begun: what the client has said already; :obj:`None` for a new connection.
        """
        self.context = context = site.context
        self.handoff = handoff
        self.ended: Callable[[HTTP2Connection], object] | None = None
        self.deadline = inf
        self.bucket = 0
        self.streams: dict[int, HTTP2Stream] = {}
        self._site = site
        self._begun = begun
        self._conn = StrictConnection(context.limits) if begun is None else begun.conn
        self._state = _State.OPEN
        self._input_over = False  # the client has shut its sending side down
        now = context.clock.seconds
        self._resets = Allowance(now, RESETS_A_SECOND, RESETS)
        self._idle_frames = Allowance(now, IDLE_FRAMES_A_SECOND, IDLE_FRAMES)
        self._stalls = StallWatch()

    # IProtocol

    @override
    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._output = HTTP2Output(
            self._conn,
            self.transport,
            self.context.clock,
            self._response_sent,
            self._data_sent,
            self._window_closed,
        )
        self._stream_context = ConnectionContext(
            self._site, self.handoff, self.transport, self._output
        )
        self.transport.registerProducer(self, True)
        self.context.deadlines.add(self)
        self._await_request()
        begun, self._begun = self._begun, None
        if begun is None:
            self._conn.initiate_connection()
            self._output.flush()
        else:
            self._act_on(begun.events)

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            events = self._conn.receive_data(data)
        except ProtocolError:
            self._break_off(Failure())
            return
        self._act_on(events)

    def _act_on(self, events: list[Any]) -> None:
        self._output.cork()
        for event in events:
            if self._closing:
                return
            act = _ACTIONS.get(type(event))
            if act is not None:
                act(self, event)
        if self._closing:
            return
        self._output.uncork()
        if self._output.held_bytes > MOST_HELD_BYTES:
            self._log.warn(
                "An HTTP/2 connection of {peer} is cut off: it asks much, and reads no answer",
                peer=self.transport.getPeer(),
            )
            self.transport.abortConnection()

    @property
    def _closing(self) -> bool:
        return self._state == _State.CLOSING

    def readConnectionLost(self) -> None:  # noqa: N802 - Twisted's name
        """
        The client sends no more; what it has asked for is answered, as far as there is room.
        """
        if self._closing:
            return
        self._input_over = True
        for stream in list(self.streams.values()):
            if not stream.whole:
                self._lose(stream, Failure(ConnectionLost("the request has no end")))
            elif self._output.is_blocked(stream.number):
                self._window_closed(stream.number)
        if not self._closing:
            self._part()

    def _window_closed(self, number: int) -> None:
        if self._input_over:
            # Nobody will open it again.
            self._conn.reset_stream(number, ErrorCodes.CANCEL)
            self._lose(self.streams[number], Failure(ConnectionLost("the window is closed")))

    def writeConnectionLost(self) -> None:  # noqa: N802 - Twisted's name
        """
        TLS does not end one half of a connection.
        """

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lose_streams(reason)
        self.context.deadlines.discard(self)
        tell_ended(self)

    # What the transport, whose producer this is, has to say.

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        It has no room.
        """
        self._output.pause()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        It has room again.
        """
        self._output.resume()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        It is over; :meth:`connectionLost` tells why.
        """

    # Requests.

    def _request_received(self, event: RequestReceived) -> None:
        number: int = event.stream_id
        headers: Pairs = event.headers
        if self._state >= _State.PARTING:
            self._conn.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            return
        status = objection_to(headers, self.context.limits)
        if status:
            self._answer_shortly(number, status, event.stream_ended is not None)
        elif self._belongs_elsewhere(headers):
            self._turn_away(number)
        else:
            self._begin(number, headers, event.stream_ended is None)

    def _begin(self, number: int, headers: Pairs, body: bool) -> None:
        self.context.requests += 1
        self._idle_frames.give(IDLE_FRAMES_A_REQUEST)
        if any(name == b":authority" for name, _ in headers):
            # The same, as HTTP/2 demands; once is enough.
            headers = [pair for pair in headers if pair[0] != b"host"]
        exchange = None
        if self.context.stickiness is not None:
            host = getattr(self.transport.getPeer(), "host", "")
            exchange = self.context.stickiness.begin(host, self._stream_context.secure, headers)
            headers = exchange.pairs
        stream = HTTP2Stream(
            number, headers, self._stream_context, exchange, self._refuse, self._abort
        )
        if self._session_has_left(stream):
            self._output.forget(number)
            self._turn_away(number)
            return
        if not self.streams:
            self._await_progress()
        self.streams[number] = stream
        stream.begin(body, self.context.deadlines.now)

    def _turn_away(self, number: int) -> None:
        """
        Have the client make a request again, on another connection.

        It was not begun, so they do, whatever its method (RFC 9113, 8.7), as they are told
        first that this connection takes no more.  Browsers do; of a 421, which curl and Go
        take as the answer, no more than a few.
        """
        self.drain()
        self._conn.reset_stream(number, ErrorCodes.REFUSED_STREAM)

    def _session_has_left(self, stream: HTTP2Stream) -> bool:
        """
        Whether a request that comes while this worker is relieved may ask for a session that
        has gone before it.
        """
        site: Any = self._site
        registry = getattr(site, "session_registry", None)
        if registry is None or not registry.forwards:
            return False
        return any(registry.has_moved(uid) for uid in site.session_ids(stream.request))

    def _belongs_elsewhere(self, headers: Pairs) -> bool:
        """
        Whether a request is another slot's, by what it says of its client.

        That of the first is not, as the connection came here by it; but the slots may have
        changed since, or the client is another one.
        """
        route, handoff = self.context.route, self.handoff
        if route is None or handoff is None or route(head_of(headers), handoff) is None:
            return False
        stickiness = self.context.stickiness
        if stickiness is None or handoff.host not in stickiness.trust:
            return True
        # A proxy's, which takes the refusal for an error of its client's.
        now = self.context.clock.seconds()
        if now >= self.context.quiet_until:
            self.context.quiet_until = now + QUIET_SECONDS
            self._log.warn(
                "The proxy {host} sends requests of several clients down one HTTP/2 connection;"
                " they are served by one worker, whosever they are: have it speak HTTP/1.1 with"
                " stickyd (--http2 off)",
                host=handoff.host,
            )
        return False

    def _data_received(self, event: DataReceived) -> None:
        length = event.flow_controlled_length
        if event.data:
            self._idle_frames.give(IDLE_FRAMES_A_DATA_FRAME)
        elif event.stream_ended is None:
            self._idle_frame(event)
            if self._closing:
                return
        stream = self.streams.get(event.stream_id)
        if stream is None:
            # Answered already; what comes is dropped, but counts.
            self._output.acknowledge(event.stream_id, length)
            return
        most = self.context.limits.body_bytes
        stream.size += len(event.data)
        stream.heard = self.context.deadlines.now
        if most is not None and stream.size > most:
            self._refuse(stream, 413)
            return
        try:
            stream.receive(event.data, length)
        except RequestError as error:
            self._refuse(stream, error.status)

    def _stream_ended(self, event: StreamEnded) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.receive_end()

    # What the client does to the connection.

    def _stream_reset(self, event: StreamReset) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            self._lose(
                stream, Failure(ConnectionLost(f"the stream was reset with {event.error_code}"))
            )
        if not self._resets.take():
            # Whoever makes requests to reset them, or has us do so, wants our time only
            # (CVE-2023-44487, CVE-2025-8671).
            self._calm_down("too many streams were reset")

    def _window_opened(self, event: WindowUpdated) -> None:
        self._idle_frame(event)
        if not self._closing:
            self._output.window_opened(event.stream_id or 0)

    def _settings_changed(self, event: RemoteSettingsChanged) -> None:
        self._idle_frame(event)
        if not self._closing:
            self._output.window_opened(0)

    def _idle_frame(self, event: object) -> None:
        """
        Count a frame that does nothing by itself.
        """
        if not self._idle_frames.take():
            self._calm_down("too many frames that do nothing")

    def _ping_acknowledged(self, event: PingAckReceived) -> None:
        if self._state == _State.WARNED and event.ping_data == _HEARD:
            self._part()
        else:
            self._idle_frame(event)

    def _client_leaves(self, event: ConnectionTerminated) -> None:
        # Streams under way are answered (RFC 9113, 6.8).
        self._part()

    def _part(self) -> None:
        """
        No more streams begin; close when those that there are have ended.
        """
        self._state = max(self._state, _State.PARTING)
        if not self.streams:
            self._finish()

    # Ends of streams.

    def _answer_shortly(self, number: int, status: int, whole: bool) -> None:
        """
        Answer a request that is not good enough to be one.
        """
        fields = [(b":status", b"%d" % status), (b"content-length", b"0")]
        self._output.put_head(number, fields, end=True)
        if not whole:
            self._conn.reset_stream(number, ErrorCodes.NO_ERROR)

    def _refuse(self, stream: HTTP2Stream, status: int) -> None:
        """
        Break a request off, and say why if nothing is said yet.
        """
        if stream.request.startedWriting:
            self._conn.reset_stream(stream.number, ErrorCodes.CANCEL)
        else:
            self._answer_shortly(stream.number, status, stream.whole)
        self._lose(stream, Failure(ConnectionLost(f"the request was refused with {status}")))

    def _abort(self, stream: HTTP2Stream) -> None:
        """
        Break a response off.  NO_ERROR would make half of it look like a whole one.
        """
        self._conn.reset_stream(stream.number, ErrorCodes.INTERNAL_ERROR)
        stream.close()
        self._forget(stream.number)

    def _lose(self, stream: HTTP2Stream, reason: Failure) -> None:
        """
        Go on without a stream that the client has given up, or shall.
        """
        self._output.forget(stream.number)
        stream.lose(reason)
        self._forget(stream.number)

    def _response_sent(self, number: int) -> None:
        stream = self.streams[number]
        if not stream.whole:
            # Answered before its body was here: the client need not send it (RFC 9113, 8.1).
            self._conn.reset_stream(number, ErrorCodes.NO_ERROR)
        stream.close()
        self._forget(number)

    def _data_sent(self) -> None:
        self._idle_frames.give(IDLE_FRAMES_A_DATA_FRAME)

    def _forget(self, number: int) -> None:
        self._output.forget(number)
        self._stalls.forget(number)
        if self.streams.pop(number, None) is None or self.streams:
            return
        if self._state == _State.PARTING:
            self._finish()
        elif self._state < _State.PARTING:
            self._await_request()
        self._output.send_soon()

    # The end of the connection.

    def _calm_down(self, why: str) -> None:
        self._conn.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
        self._break_off(Failure(ConnectionLost(why)))

    def _break_off(self, reason: Failure) -> None:
        """
        Close a connection whose client has broken the rules, and has been told so.
        """
        self._lose_streams(reason)
        self._close()

    def _lose_streams(self, reason: Failure) -> None:
        self._state = _State.CLOSING
        for stream in list(self.streams.values()):
            self._lose(stream, reason)

    def _finish(self) -> None:
        self._conn.close_connection()
        self._close()

    def _close(self) -> None:
        """
        Write what the client must still be told, and close.
        """
        self._state = _State.CLOSING
        self._output.close()
        # A registered producer may write more, so TLS would wait for it.
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._expect(self.context.limits.stall)

    # Times.

    def _expect(self, seconds: float | None) -> None:
        deadlines = self.context.deadlines
        self.deadline = inf if seconds is None else deadlines.now + seconds
        deadlines.hasten(self)

    def _await_request(self) -> None:
        if self._state == _State.OPEN:
            self._expect(self.context.limits.idle)

    def _await_progress(self) -> None:
        limits = self.context.limits
        times = [time for time in (limits.body, limits.stall) if time is not None]
        if self._state != _State.WARNED:
            self._expect(min(times) if times else None)

    def expire(self) -> None:
        """
        Called by the timer when a look is due.
        """
        if self._closing:
            self.transport.abortConnection()
            return
        if self._state == _State.WARNED:
            # It does not answer, or only our PING; so it has had its time.
            self._part()
        elif not self.streams:
            self._finish()
        if not self._closing:
            self._look_at_uploads()
            self._look_at_output()
            self._await_progress()

    def _look_at_uploads(self) -> None:
        limit = self.context.limits.body
        if limit is not None:
            since = self.context.deadlines.now - limit
            for stream in list(self.streams.values()):
                if stream.waits_for_client and stream.heard <= since:
                    self._refuse(stream, 408)

    def _look_at_output(self) -> None:
        """
        Cut off clients that take nothing of what they have asked for: all of the connection, or
        some of its streams.
        """
        limit = self.context.limits.stall
        if limit is None:
            return
        now, output = self.context.deadlines.now, self._output
        if self._stalls.seconds(0, output.waits, output.sent, now) >= limit:
            self.transport.abortConnection()
            return
        for stream in list(self.streams.values()):
            queue = stream.queue
            if self._stalls.seconds(stream.number, bool(queue), queue.taken, now) >= limit:
                self._conn.reset_stream(stream.number, ErrorCodes.CANCEL)
                self._lose(stream, Failure(ConnectionLost("the client takes nothing")))
        output.send_soon()

    # For the worker.

    @property
    def busy(self) -> bool:
        """
        Whether a request is under way whose response has not begun: what it does to its
        session is not saved yet.
        """
        return bool(self.unanswered)

    @property
    def unanswered(self) -> list[Any]:
        """
        The requests under way whose responses have not begun.
        """
        requests = [stream.request for stream in self.streams.values()]
        return [request for request in requests if not request.startedWriting]

    def say_goodbye(self, code: int) -> bool:
        """
        WebSockets come over HTTP/1.1 only.
        """
        return False

    def end_streams(self) -> None:
        """
        End the responses that are event streams: their applications are told that the client
        is gone, the client that the streams are over.
        """
        for stream in list(self.streams.values()):
            if getattr(stream.request, "streams_events", False):
                stream.finish_early(Failure(ConnectionDone("The server stops.")))

    def give_away(self, goes: object, take: object) -> None:
        """
        The TLS lives here, so the connection cannot be given away.
        """
        self.drain()

    def drain(self) -> None:
        """
        Have the client begin no more streams, finish those that there are, and close.

        Streams that the client begins before it has read that are served too (RFC 9113,
        6.8): the answer to a PING shows when it has.
        """
        if self._state != _State.OPEN:
            return
        self._state = _State.WARNED
        self._conn.warn()
        self._conn.ping(_HEARD)
        self._output.flush()
        self._expect(self.context.limits.first)

    def abortConnection(self) -> None:  # noqa: N802 - as the channels'
        """
        Close the connection now.
        """
        self.transport.abortConnection()


_ACTIONS: dict[type, Callable[[HTTP2Connection, Any], object]] = {
    RequestReceived: HTTP2Connection._request_received,
    DataReceived: HTTP2Connection._data_received,
    StreamEnded: HTTP2Connection._stream_ended,
    StreamReset: HTTP2Connection._stream_reset,
    WindowUpdated: HTTP2Connection._window_opened,
    RemoteSettingsChanged: HTTP2Connection._settings_changed,
    SettingsAcknowledged: HTTP2Connection._idle_frame,
    PingReceived: HTTP2Connection._idle_frame,
    PriorityUpdated: HTTP2Connection._idle_frame,
    UnknownFrameReceived: HTTP2Connection._idle_frame,
    ConnectionTerminated: HTTP2Connection._client_leaves,
    PingAckReceived: HTTP2Connection._ping_acknowledged,
}
