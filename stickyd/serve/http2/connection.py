# mypy: allow-untyped-calls
# (h2 is not annotated throughout.)
"""
An HTTP/2 connection, for Twisted resources and WSGI.

h2 has the rules, in :class:`StrictConnection`; :class:`Streams` has the streams under way and
what sends their responses; an :class:`HTTP2Stream` is what a request knows of it all.  Here are
the states: when a stream may begin, and what ends the connection.  It is one class, though a
long one, because h2, the transport, the timer and the worker each may change the one state.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

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
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from stickyd.serve.http2.context import ConnectionContext
from stickyd.serve.http2.flood_guard import FloodGuard
from stickyd.serve.http2.objection import objection_to
from stickyd.serve.http2.ownership import Ownership
from stickyd.serve.http2.stream import HTTP2Stream
from stickyd.serve.http2.streams import Streams
from stickyd.serve.http2.strict import StrictConnection
from stickyd.serve.open_connections import uncounted
from stickyd.serve.served_connection import IServedConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.site import HTTPSite
    from stickyd.serve.http2.begun import Begun
    from stickyd.serve.under_way import UnderWay

    Pairs = list[tuple[bytes, bytes]]

#: The payload of the PING whose answer shows that the client has read our GOAWAY.
_FAREWELL = b"farewell"

#: How much of our own control frames may wait for a client that reads none.
MOST_HELD_BYTES = 1 << 20


class _State:
    """
    How far a connection is on its way to its end: plain numbers, as each stream asks.
    """

    OPEN: Final = 0
    #: The client was asked to begin no more streams; those that it begins are served.
    WARNED: Final = 1
    #: It begins no more.
    PARTING: Final = 2
    #: Nothing more is read.
    CLOSING: Final = 3


@implementer(IServedConnection, IHalfCloseableProtocol)
class HTTP2Connection(Protocol):
    """
    Serves one connection.

    :ivar deadline: the timer's.
    :ivar bucket: the timer's.
    :ivar streams: those under way.
    """

    _log = Logger()

    descriptors = 1
    transport: Any  # TlsTransport, whose methods are not annotated

    def __init__(
        self,
        site: HTTPSite,
        handoff: Handoff | None = None,
        ended: Callable[[Any], object] = uncounted,
        begun: Begun | None = None,
    ) -> None:
        """
        :param handoff: the handoff that brought the connection, if one did.
        :param ended: called when it is served here no longer.
        :param begun: what the client has said already; :obj:`None` for a new connection.
        """
        self.context = context = site.context
        self.handoff = handoff
        self._ended = ended
        self.deadline = inf
        self.bucket = 0
        self._site = site
        self._begun = begun
        self._conn = StrictConnection(context.limits) if begun is None else begun.conn
        self._state: int = _State.OPEN
        self._ownership = Ownership(site, handoff)
        self._guard = FloodGuard(context.clock.seconds)
        self.streams = Streams(
            self._conn, context, self._write, self._guard.note_data, self._emptied
        )
        self._output = self.streams.output

    # IProtocol

    @override
    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._stream_context = ConnectionContext(
            self._site, self.handoff, self.transport, self._output
        )
        self.transport.registerProducer(self._output, True)
        self.context.deadlines.add(self, self.context.limits.idle)
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
                event="http2.flood",
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
        self.streams.input_over()
        if not self._closing:
            self._part()

    def writeConnectionLost(self) -> None:  # noqa: N802 - Twisted's name
        """
        TLS does not end one half of a connection.
        """

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._state = _State.CLOSING
        self.streams.lose_all(reason)
        self.context.deadlines.discard(self)
        self._ended(self)

    def _write(self, data: bytes) -> None:
        self.transport.write(data)

    # Requests.

    def _request_received(self, event: RequestReceived) -> None:
        number: int = event.stream_id
        headers: Pairs = event.headers
        if self._state >= _State.PARTING:
            self._conn.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            return
        status = objection_to(headers, self.context.limits)
        if status:
            self.streams.answer_shortly(number, status, event.stream_ended is not None)
        elif self._ownership.belongs_elsewhere(headers):
            self._turn_away(number)
        else:
            self._begin(number, headers, event.stream_ended is None)

    def _begin(self, number: int, headers: Pairs, body: bool) -> None:
        self._guard.note_request()
        if any(name == b":authority" for name, _ in headers):
            # HTTP/2 demands that both say the same, so one of them is enough.
            headers = [pair for pair in headers if pair[0] != b"host"]
        exchange = None
        if self.context.stickiness is not None:
            host = getattr(self.transport.getPeer(), "host", "")
            exchange = self.context.stickiness.begin(host, self._stream_context.secure, headers)
            headers = exchange.pairs
        streams = self.streams
        stream = HTTP2Stream(
            number, headers, self._stream_context, exchange, streams.refuse, streams.abort
        )
        if self._ownership.session_has_left(stream.request):
            self._output.forget(number)
            self._turn_away(number)
            return
        if not streams:
            self._await_progress()
        streams.begin(stream, body)

    def _turn_away(self, number: int) -> None:
        """
        Have the client make a request again, on another connection.

        As the request was not begun, a client may repeat it whatever its method (RFC 9113,
        8.7); it is told first that this connection takes no more.  A status of 421 would not
        do: few clients repeat a request for it, and curl and Go take it for the answer.
        """
        self.drain()
        self._conn.reset_stream(number, ErrorCodes.REFUSED_STREAM)

    def _data_received(self, event: DataReceived) -> None:
        if event.data:
            self._guard.note_data()
        elif event.stream_ended is None:
            self._idle_frame(event)
            if self._closing:
                return
        self.streams.receive(event.stream_id, event.data, event.flow_controlled_length)

    def _stream_ended(self, event: StreamEnded) -> None:
        self.streams.receive_end(event.stream_id)

    # What the client does to the connection.

    def _stream_reset(self, event: StreamReset) -> None:
        self.streams.receive_reset(event.stream_id, event.error_code)
        if not self._guard.take_reset():
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
        if not self._guard.take_idle_frame():
            self._calm_down("too many frames that do nothing")

    def _ping_acknowledged(self, event: PingAckReceived) -> None:
        if self._state == _State.WARNED and event.ping_data == _FAREWELL:
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

    # The end of the connection.

    def _emptied(self) -> None:
        if self._state == _State.PARTING:
            self._finish()
        elif self._state < _State.PARTING:
            self._await_request()

    def _calm_down(self, why: str) -> None:
        self._conn.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
        self._break_off(Failure(ConnectionLost(why)))

    def _break_off(self, reason: Failure) -> None:
        """
        Close a connection whose client has broken the rules, and has been told so.
        """
        self._state = _State.CLOSING
        self.streams.lose_all(reason)
        self._close()

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
            # The client has not answered our PING, and has had its time.
            self._part()
        elif not self.streams:
            self._finish()
        if not self._closing:
            self.streams.refuse_slow_uploads()
            if self.streams.give_up_stalled():
                self.transport.abortConnection()
            self._await_progress()

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
        return self.streams.unanswered

    def under_way(self) -> list[UnderWay]:
        """
        The requests of all streams.
        """
        return self.streams.under_way()

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
        self.streams.end_event_streams()

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
        self._conn.ping(_FAREWELL)
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
