# ruff: noqa: N802 - the camelCase names are Twisted's
# mypy: allow-untyped-calls
# (Twisted's HTTP/2 is not annotated.)
"""
HTTP/2 for Twisted resources: twisted.web's connection, mended at its edge.

What of Twisted's internals this module stands on: that ``H2Connection`` keeps ``conn`` (an
:class:`h2.connection.H2Connection`), ``streams``, ``_outboundStreamQueues``,
``_consumerBlocked``, ``_sendingDeferred``, ``_bufferedControlFrames`` and
``_stillProducing``, and blocks and unblocks streams in ``priority``; calls
``_sendPrioritisedData()`` when there is data, and ``_requestDone()`` for each stream that is
over; and has the handlers ``_handlePriorityUpdate``,
``_requestAborted`` and ``_tryToWriteControlData``.  The tests hold them.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from priority import DuplicateStreamError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from typing_extensions import override

from stickyd.affinity.peek.http2 import head_of
from stickyd.handoff.frame import Flag
from stickyd.serve.http.head import RequestError
from stickyd.serve.http2.allowance import Allowance
from stickyd.serve.http2.output import Sending
from stickyd.serve.http2.stream import HTTP2Stream
from stickyd.serve.http2.strict import StrictConnection, objection_to

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.site import HTTPSite
    from stickyd.serve.http2.begun import Begun

#: Asks the client for an answer that shows that it has read our GOAWAY.
_HEARD = b"farewell"

#: How many streams may be reset at once, and in each second on average.
RESETS = 200
RESETS_A_SECOND = 33.0

#: Seconds between two lines in the log about proxies that mix their clients.
QUIET = 600.0


class HTTP2Channel(Sending):
    """
    Serves one connection.

    :ivar site: finds the resource of a request.
    :ivar shared: what all channels of the worker share.
    :ivar came: the handoff that brought the connection, if one did.
    :ivar ended: called with the channel when its connection is over.
    :ivar closing: nothing more is read.
    :ivar deadline: for the sweep.
    :ivar bucket: for the sweep.
    """

    site: Any  # the HTTPSite, or None for Twisted's own
    factory: Any
    ended: Callable[[HTTP2Channel], object] | None = None
    came: Handoff | None = None
    deadline = inf
    bucket = 0

    closing = False
    _draining = False
    _parting = False  # the client will begin no more streams
    _stuck: tuple[int, float] | None = None  # how many had been sent when sending got stuck

    def __init__(self, site: HTTPSite, begun: Begun | None = None) -> None:
        """
        :param begun: what the client has said already; :obj:`None` for a new connection.
        """
        self.shared = shared = site.shared
        super().__init__(shared.clock)
        self.site = self.factory = site
        self.requestFactory = site.requestFactory
        self._begun = begun
        self._resets = Allowance(RESETS, RESETS_A_SECOND, shared.clock.seconds())
        self.conn = StrictConnection(shared.limits) if begun is None else begun.conn

    # IProtocol

    @override
    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.shared.sweep.add(self)
        self._await_request()
        begun, self._begun = self._begun, None
        if begun is None:
            self.conn.initiate_connection()
            self._tryToWriteControlData()
        else:
            self._handle_all(begun.events)

    @override
    def dataReceived(self, data: bytes) -> None:
        if self.closing:
            return
        try:
            events = self.conn.receive_data(data)
        except ProtocolError:
            self._lose_streams(Failure())
            self._close()
            return
        self._handle_all(events)

    def _handle_all(self, events: list[Any]) -> None:
        for event in events:
            if not self.closing:
                self._handle(event)
        if not self.closing:
            self._tryToWriteControlData()

    @override
    def connectionLost(
        self, reason: Failure = connectionDone, _cancelTimeouts: bool = True
    ) -> None:
        self.closing = True
        self._lose_streams(reason)
        self.shared.sweep.discard(self)
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(self)

    def _lose_streams(self, reason: Failure) -> None:
        self.closing = True
        self._stillProducing = False
        for stream in list(self.streams.values()):
            stream.connectionLost(reason)
        for number in list(self.streams):
            self._requestDone(number)

    # Events.

    def _handle(self, event: Any) -> None:
        handle = _HANDLERS.get(type(event))
        if handle is not None:
            handle(self, event)

    def _request_received(self, event: Any) -> None:
        number = event.stream_id
        limits = self.shared.limits
        if self._parting:
            self.conn.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            return
        headers = event.headers
        status = objection_to(headers, limits)
        if status:
            self._refuse(number, status, event.stream_ended is not None)
            return
        if self._belongs_elsewhere(headers):
            self._turn_away(number)
            return
        self.shared.requests += 1
        if any(name == b":authority" for name, _ in headers):
            # The same, as HTTP/2 demands; once is enough.
            headers = [pair for pair in headers if pair[0] != b"host"]
        visit = None
        if self.shared.reception is not None:
            host = getattr(self.getPeer(), "host", "")
            visit = self.shared.reception.begin(host, self._isSecure(), headers)
            headers = visit.pairs
        stream = HTTP2Stream(number, self, headers, self.requestFactory, self.site, self.factory)
        if self._session_has_left(stream):
            self._turn_away(number)
            return
        if not self.streams:
            self._await_progress()
        # As Twisted's own, but for the class.
        self._streamCleanupCallbacks[number] = Deferred()
        self._outboundStreamQueues[number] = deque()
        self._insert(number)
        stream.heard = self.shared.sweep.now
        if event.stream_ended is None:
            stream.expect_body()
        if visit is not None:
            stream.receive(visit)
        self.streams[number] = stream

    def _turn_away(self, number: int) -> None:
        """
        Have the client make a request again, on another connection.

        It was not begun, so they do, whatever its method (RFC 9113, 8.7), as they are told
        first that this connection takes no more.  Browsers do; of a 421, which curl and Go
        take as the answer, no more than a few.
        """
        self.drain()
        self.conn.reset_stream(number, ErrorCodes.REFUSED_STREAM)

    def _session_has_left(self, stream: HTTP2Stream) -> bool:
        """
        Whether a request that comes while this worker is relieved may ask for a session that
        has gone before it.
        """
        registry = getattr(self.site, "session_registry", None)
        if registry is None or not registry.forwards:
            return False
        return any(registry.has_moved(uid) for uid in self.site.session_ids(stream._request))

    def _belongs_elsewhere(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """
        Whether a request is another slot's, by what it says of its client.

        That of the first is not, as the connection came here by it; but the slots may have
        changed since, or the client is another one.
        """
        route, came = self.shared.route, self.came
        if route is None or came is None:
            return False
        if route(head_of(headers), came) is None:
            return False
        reception = self.shared.reception
        if reception is None or came.host not in reception.trust:
            return True
        # A proxy's, which takes the refusal for an error of its client's.
        now = self.shared.clock.seconds()
        if now >= self.shared.quiet_until:
            self.shared.quiet_until = now + QUIET
            self._log.warn(
                "The proxy {host} sends requests of several clients down one HTTP/2 connection;"
                " they are served by one worker, whosever they are: have it speak HTTP/1.1 with"
                " stickyd (--http2 off)",
                host=came.host,
            )
        return False

    @override
    def _isSecure(self) -> bool:
        # Or its TLS is at the other end of a tunnel.
        tunnelled = self.came is not None and bool(self.came.flags & Flag.HTTPS)
        return tunnelled or super()._isSecure()

    def _insert(self, number: int) -> None:
        try:
            self.priority.insert_stream(number)
        except DuplicateStreamError:
            pass  # by a PRIORITY frame that came before
        else:
            self.priority.block(number)

    def _data_received(self, event: Any) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None:
            # Answered already; what comes is dropped, but counts.
            self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            return
        most = self.shared.limits.body_bytes
        stream.size += len(event.data)
        stream.heard = self.shared.sweep.now
        if most is not None and stream.size > most:
            self._refuse_stream(stream, 413)
            return
        try:
            stream.receiveDataChunk(event.data, event.flow_controlled_length)
        except RequestError as error:
            self._refuse_stream(stream, error.status)

    def _stream_ended(self, event: Any) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.whole = True
            stream.requestComplete()

    def _stream_reset(self, event: Any) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.whole = True
            stream.connectionLost(
                Failure(ConnectionLost(f"the stream was reset with {event.error_code}"))
            )
            self._requestDone(event.stream_id)
        if not self._resets.take(self.shared.clock.seconds()):
            # Whoever makes requests to reset them, or has us do so, wants our time only
            # (CVE-2023-44487, CVE-2025-8671).
            self.conn.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            self._lose_streams(Failure(ConnectionLost("too many streams were reset")))
            self._close()

    def _heard_farewell(self, event: Any) -> None:
        if self._draining and event.ping_data == _HEARD:
            self._part()

    def _part(self, event: object = None) -> None:
        """
        No more streams begin; close when those that there are have ended.
        """
        self._parting = True
        if not self.streams:
            self._finish()

    # Refusals.

    def _refuse(self, number: int, status: int, whole: bool) -> None:
        """
        Answer a request that is not good enough to be one.
        """
        fields = [(b":status", b"%d" % status), (b"content-length", b"0")]
        self.conn.send_headers(number, fields, end_stream=True)
        if not whole:
            self.conn.reset_stream(number, ErrorCodes.NO_ERROR)

    def _refuse_stream(self, stream: HTTP2Stream, status: int) -> None:
        """
        Break a request off, and say why if nothing is said yet.
        """
        number = stream.streamID
        whole, stream.whole = stream.whole, True
        if stream._request.startedWriting:
            self.conn.reset_stream(number, ErrorCodes.CANCEL)
        else:
            self._refuse(number, status, whole)
        stream.connectionLost(Failure(ConnectionLost(f"the request was refused with {status}")))
        self._requestDone(number)

    @override
    def abortRequest(self, streamID: int) -> None:
        stream = self.streams[streamID]
        stream.whole = True
        # Twisted says NO_ERROR, which makes half a response look like a whole one.
        self.conn.reset_stream(streamID, ErrorCodes.INTERNAL_ERROR)
        if self._tryToWriteControlData():
            self._requestDone(streamID)

    # The end of streams, and of the connection.

    @override
    def _requestDone(self, streamID: int) -> None:
        stream = self.streams[streamID]
        super()._requestDone(streamID)
        if self.closing:
            return
        if not stream.whole:
            # Answered before its body was here: the client need not send it (RFC 9113, 8.1).
            self.conn.reset_stream(streamID, ErrorCodes.NO_ERROR)
            self._tryToWriteControlData()
        if not self.streams:
            if self._parting:
                self._finish()
            else:
                self._await_request()

    def _finish(self) -> None:
        self.conn.close_connection()
        self._close()

    def _close(self) -> None:
        """
        Write what the client must still be told, and close.
        """
        self.closing = True
        self._stillProducing = False
        for frames in self._bufferedControlFrames:
            self.transport.write(frames)
        self._bufferedControlFrames.clear()
        self.transport.write(self.conn.data_to_send())
        # A registered producer may write more, so TLS would wait for it.
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._expect(self.shared.limits.stall)

    # Times.

    def _expect(self, seconds: float | None) -> None:
        sweep = self.shared.sweep
        self.deadline = inf if seconds is None else sweep.now + seconds
        if self.ended is not None:
            sweep.hasten(self)

    def _await_request(self) -> None:
        if not self._draining:
            self._expect(self.shared.limits.idle)

    def _await_progress(self) -> None:
        limits = self.shared.limits
        times = [time for time in (limits.body, limits.stall) if time is not None]
        if not self._draining or self._parting:
            self._expect(min(times) if times else None)

    def expire(self) -> None:
        """
        Called by the sweep when a look is due.
        """
        if self.closing:
            self.transport.abortConnection()
            return
        if self._draining and not self._parting:
            # It does not answer, or only our PING; so it has had its time.
            self._part()
        elif not self.streams:
            self._finish()
        if not self.closing:
            self._look_at_uploads()
            self._look_at_output()
            self._await_progress()

    def _look_at_uploads(self) -> None:
        limit = self.shared.limits.body
        if limit is not None:
            since = self.shared.sweep.now - limit
            for stream in list(self.streams.values()):
                if not stream.whole and stream.producing and stream.heard <= since:
                    self._refuse_stream(stream, 408)
            self._tryToWriteControlData()

    def _look_at_output(self) -> None:
        limit = self.shared.limits.stall
        waits = self._consumerBlocked is not None or any(self._outboundStreamQueues.values())
        now = self.shared.sweep.now
        if not waits or limit is None:
            self._stuck = None
        elif self._stuck is None or self._stuck[0] != self.sent:
            self._stuck = self.sent, now
        elif now - self._stuck[1] >= limit:
            self.transport.abortConnection()

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
        requests = [stream._request for stream in self.streams.values()]
        return [request for request in requests if not request.startedWriting]

    def say_goodbye(self, code: int) -> bool:
        """
        WebSockets come over HTTP/1.1 only.
        """
        return False

    def release(self, take: object) -> None:
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
        if self._draining or self.closing:
            return
        self._draining = True
        self.conn.warn()
        self.conn.ping(_HEARD)
        self._tryToWriteControlData()
        self._expect(self.shared.limits.first)

    def abortConnection(self) -> None:
        """
        Close the connection now.
        """
        self.transport.abortConnection()


_HANDLERS: dict[type, Callable[[HTTP2Channel, Any], object]] = {
    RequestReceived: HTTP2Channel._request_received,
    DataReceived: HTTP2Channel._data_received,
    StreamEnded: HTTP2Channel._stream_ended,
    StreamReset: HTTP2Channel._stream_reset,
    WindowUpdated: HTTP2Channel._window_opened,
    RemoteSettingsChanged: HTTP2Channel._window_opened,
    PriorityUpdated: HTTP2Channel._handlePriorityUpdate,
    ConnectionTerminated: HTTP2Channel._part,
    PingAckReceived: HTTP2Channel._heard_farewell,
}
