"""
What a request has to do with sessions.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from typing_extensions import override

from stickyd.errors import NoSuchSession, SessionConflict, SessionMoved, StoreAway
from stickyd.sessions.live import FORMER_ID_SECONDS
from stickyd.sessions.record import EndReason
from stickyd.sessions.web.held import HeldSessions

#: Seconds that a request waits for a session that another request of its client still uses in
#: the worker that was relieved.
AWAIT_SECONDS = 30.0

#: After so many seconds a request that asks for its session once more has used it again.
_TOUCH_SECONDS = 60.0

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from twisted.internet.defer import FirstError

    from stickyd.sessions.live import LiveSession
    from stickyd.sessions.web.session import Session
    from stickyd.sessions.web.source import SessionSource

    _Base = server.Request
else:
    # A mixin: it stands before server.Request or a subclass of it.
    _Base = object


class SessionRequestMixin(_Base):
    """
    Stands before :class:`twisted.web.server.Request`, or a subclass of it, in the requests of
    a :class:`stickyd.sessions.web.site.SessionSite`.

    What a request does to its sessions is saved before the first byte of its
    response, so that no client is told of what may be lost; if it cannot be saved the
    request fails instead (500).  What it does after that byte is saved when it ends.
    With a store that is not immediate, the sessions that the cookies name are loaded
    before the resource is rendered, and the response waits for the store.

    A request for a session that has moved to another worker, or whose store is away, is
    answered with 503 and ``Retry-After``: a new session would make the client lose the one
    that it has.  One whose changes cannot be saved, as another worker has changed the session
    meanwhile, is answered with 409.

    :ivar session_conflict: called with the request in the place of the short 409; a resource
        may set it.
    """

    session_conflict: Callable[[Any], object] | None = None

    _session_log = Logger()

    # Used by this request, and not saved since.
    _sessions_held: HeldSessions | None = None
    # Whether all that it does before its response begins is saved, or being saved.
    _sessions_settled = False
    # Loaded for this request: the registry does not keep what nobody uses.
    _sessions_loaded: tuple[LiveSession, ...] = ()
    # What waits to be written until the sessions are saved.
    _output: list[bytes] | None = None
    _output_ends = False
    # Whether a producer waits for that too.
    _producer_waits = False

    @override
    def process(self) -> None:
        channel: Any = self.channel
        site: SessionSource = channel.site
        registry = site.session_registry
        if registry.awaited.keys and self._await_sessions(site):
            return
        if registry.store.immediate:
            super().process()
        else:
            self._load_sessions(site)

    def _load_sessions(self, site: SessionSource) -> None:
        self.site = cast("Any", site)
        registry = site.session_registry
        named = self.getCookie(self._cookie_name(False))
        uids = [] if named is None else [named]
        if self.isSecure():
            secured = self.getCookie(self._cookie_name(True))
            uids += [] if secured is None else [secured]
        trusted = site.session_trusted(cast("Any", self))
        loading = [
            registry.load(uid, trusted) for uid in uids if not registry.at_hand(uid, trusted)
        ]
        if not loading:
            super().process()
            return
        gatherResults(loading, consumeErrors=True).addCallbacks(
            self._process_loaded, self._not_loaded
        )

    @override
    def getSession(self, sessionInterface: Any = None, forceNotSecure: bool = False) -> Any:
        """
        As of :class:`twisted.web.server.Request`.

        :raise stickyd.errors.SessionMoved: another worker has the session.
        """
        secure = self.isSecure() and not forceNotSecure
        session: Session | None = self._secureSession if secure else self._insecureSession
        if session is None:
            session = self._find_session(secure) or self._make_session(secure)
        else:
            if session.live.last_touch_seconds() >= _TOUCH_SECONDS:
                session.touch()
            if session.live.ended is not None:
                if session.live.ended is EndReason.MOVED:
                    raise SessionMoved("this session has moved to another worker")
                session = self._find_session(secure) or self._make_session(secure)
        self._hold_session(session)
        if secure:
            self._secureSession = cast("Any", session)  # there it seems to be None forever
        else:
            self._insecureSession = cast("Any", session)
        if sessionInterface is not None:
            return session.getComponent(sessionInterface)
        return session

    def regenerate_session(
        self, force_not_secure: bool = False, former_id_seconds: float = FORMER_ID_SECONDS
    ) -> Session:
        """
        Give the session of this request a new id, and its client the new cookie.  To be
        called when the client logs in, see
        :meth:`stickyd.sessions.live.LiveSession.regenerate`.

        Requests under way that have the session already keep it; others that the client sent
        with the old id find it for a while.

        :param former_id_seconds: for how long; 0 for not at all.
        :raise RuntimeError: the response has begun, so that the cookie cannot be sent.
        :raise stickyd.errors.SessionError: as :meth:`stickyd.sessions.live.LiveSession.save`.
        """
        if self.startedWriting:
            raise RuntimeError("a session cannot be given a new id once the response has begun")
        session = cast("Session", self.getSession(forceNotSecure=force_not_secure))
        work = session.regenerate(former_id_seconds)
        if work.called:
            _raise_failure(work)
        else:
            # It holds this session by now.
            cast("HeldSessions", self._sessions_held).add_work(work)
        self._send_cookie(session)
        return session

    def hold_sessions(self) -> None:
        """
        Keep the sessions that this request may ask for from being carried away before its
        response begins.  Called before sessions are carried away, on each request
        that is under way; its body need not be here yet.
        """
        if self._sessions_settled:
            return
        site: SessionSource = cast("Any", self.channel).site
        for uid in site.session_ids(self):
            try:
                self._hold_session(site.getSession(uid))
            except (NoSuchSession, SessionMoved):
                pass  # it is nobody's, or has gone

    def _hold_session(self, session: Session) -> None:
        if self._sessions_held is None:
            self._sessions_held = HeldSessions(session.site.session_registry, session)
        else:
            self._sessions_held.hold(session)

    @override
    def write(self, data: bytes) -> None:
        if self._sessions_held is not None and self._output is None:
            self._save_sessions(self._sessions_held)
        if self._output is None:
            super().write(data)
        else:
            self._output.append(data)

    @override
    def finish(self) -> None:
        if self._sessions_held is not None and self._output is None:
            self._save_sessions(self._sessions_held)
        if self._output is None:
            super().finish()
        else:
            self._output_ends = True

    @override
    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._output is None:
            super().registerProducer(producer, streaming)
            return
        if self.producer:
            raise ValueError(f"registering {producer} before the former producer was unregistered")
        self.producer, self.streamingProducer = producer, streaming
        self._have_producer_wait()

    @override
    def unregisterProducer(self) -> None:
        if self._producer_waits:
            self._producer_waits = False
            self.producer = None
        else:
            super().unregisterProducer()

    def _have_producer_wait(self) -> None:
        """
        Have nothing produced while the response is held back: it would only fill memory.
        """
        self._producer_waits = True
        if self.streamingProducer:
            cast("Any", self.producer).pauseProducing()

    def _let_producer_go_on(self) -> None:
        if self._producer_waits:
            self._producer_waits = False
            producer: Any = self.producer
            self.channel.registerProducer(producer, self.streamingProducer)
            if self.streamingProducer:
                producer.resumeProducing()

    def upgraded(self) -> None:
        """
        Called when another protocol has the connection, perhaps for hours: the sessions are
        saved and let go of, as when a response begins.
        """
        self._settle_unheard()

    @override
    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self._settle_unheard()

    def _settle_unheard(self) -> None:
        if self._sessions_held:
            # The application has done what it has done, even if nobody hears of it.
            self._sessions_held.settle().addErrback(self._log_unsaved)

    @override
    def processingFailed(self, reason: Failure) -> Failure:
        if self._sessions_held and self._output is None:
            # Here and not in write(), where a second failure would be reported to nobody.
            self._save_sessions(self._sessions_held, may_fail=False)
        match reason.value:
            case SessionMoved() if not self.startedWriting:
                self._answer_briefly(
                    http.SERVICE_UNAVAILABLE, b"This session has moved. Please try again.\n", 1
                )
            case StoreAway() as away if not self.startedWriting:
                self._answer_briefly(
                    http.SERVICE_UNAVAILABLE,
                    b"Sessions cannot be had at the moment. Please try again.\n",
                    away.retry_after_seconds,
                )
            case SessionConflict() if not self.startedWriting:
                if self.session_conflict is None:
                    self._answer_briefly(
                        http.CONFLICT,
                        b"Another request has changed this session meanwhile. Please try again.\n",
                    )
                else:
                    self._forget_session_cookies()
                    self.session_conflict(self)
            case _:
                return cast("Failure", super().processingFailed(reason))
        return reason

    def _forget_session_cookies(self) -> None:
        # A cookie of a session that is not stored would take the place of a good one.
        names = tuple(self._cookie_name(secure) + b"=" for secure in (False, True))
        self.cookies[:] = [sent for sent in self.cookies if not sent.startswith(names)]

    def _answer_briefly(self, code: int, body: bytes, retry_seconds: int | None = None) -> None:
        self.setResponseCode(code)
        self._forget_session_cookies()
        if retry_seconds is not None:
            self.setHeader(b"Retry-After", b"%d" % retry_seconds)
        self.setHeader(b"Content-Type", b"text/plain")
        self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()

    def _await_sessions(self, site: SessionSource) -> bool:
        """
        Wait for the sessions that another request of this client still uses in the worker that
        this one relieves.

        :return: whether there is one.
        """
        registry = site.session_registry
        coming = [registry.awaited.wait(uid) for uid in site.session_ids(self)]
        waiting = [deferred for deferred in coming if deferred is not None]
        if waiting:
            self.site = cast("Any", site)
            arriving: Deferred[None] = Deferred()

            def arrived(_: object) -> None:
                if not arriving.called:
                    arriving.callback(None)

            # Not the list itself: to cancel it would cancel what it waits for.
            DeferredList(waiting).addCallback(arrived)
            arriving.addTimeout(AWAIT_SECONDS, registry.clock)
            arriving.addCallbacks(self._process_arrived, self._not_arrived)
        return bool(waiting)

    def _process_arrived(self, _: object) -> None:
        site = cast("SessionSource", self.site)
        if site.session_registry.relieved:
            # They go past this worker too.
            self._not_arrived(None)
        elif site.session_registry.store.immediate:
            self._process_loaded([])
        else:
            self._load_sessions(site)

    def _not_arrived(self, _: object) -> None:
        self._session_failed(Failure(SessionMoved("this session is still used by another worker")))

    def _process_loaded(self, sessions: list[LiveSession | None]) -> None:
        if self._disconnected:
            return
        self._sessions_loaded = tuple(session for session in sessions if session is not None)
        super().process()

    def _not_loaded(self, failure: Failure) -> None:
        self._session_failed(cast("FirstError", failure.value).subFailure)

    def _cookie_name(self, secure: bool) -> bytes:
        cookie = cast("SessionSource", self.site).session_cookie
        name = cookie.name_for(secure)
        # As in twisted.web: a site that is a child of another has its own cookie.
        sitepath = getattr(self, "sitepath", None)
        return b"_".join([name, *sitepath]) if sitepath else name

    def _find_session(self, secure: bool) -> Session | None:
        name = self._cookie_name(secure)
        uid = self.getCookie(name)
        if not uid:
            return None
        site = cast("SessionSource", self.site)
        session = site.sessions.get(uid)
        if session is not None:
            # Nearly always: it is in use here, and by the id that it has.
            live = session.live
            live.touch()
            if live.ended is None and live.secure == secure:
                live.key = site.session_key(self)
                self._note_client(site, live)
                return cast("Session", session)
        session = self._session_of(site, uid, secure)
        if session is None:
            # There may be another cookie of the name, of another path or domain.
            others = _values_of(self.requestHeaders.getRawHeaders(b"cookie", []), name)
            found = (self._session_of(site, other, secure) for other in others if other != uid)
            session = next(filter(None, found), None)
        if session is not None:
            session.live.key = site.session_key(self)
            self._note_client(site, session.live)
        return cast("Session | None", session)

    def _note_client(self, site: SessionSource, live: LiveSession) -> None:
        client = site.session_client(self)
        if client is not None:
            live.note_client(client)

    def _session_of(self, site: SessionSource, uid: bytes, secure: bool) -> Session | None:
        session: Session
        try:
            session = site.getSession(uid)
        except NoSuchSession:
            # Never taken as the id of a new one: somebody may have planted it.
            return None
        if session.live.is_former_id(uid) and session.live.key != site.session_key(self):
            # The id that it had before a login: it may have been planted by whom this is.
            return None
        # An id that was sent without TLS is worth nothing with it, and the reverse.
        return session if session.live.secure == secure else None

    def _make_session(self, secure: bool) -> Session:
        site = cast("SessionSource", self.site)
        session: Session = site.make_session(site.session_key(self), secure)
        self._note_client(site, session.live)
        self._send_cookie(session)
        return session

    def _send_cookie(self, session: Session) -> None:
        cookie = cast("SessionSource", self.site).session_cookie
        secure = session.live.secure
        name = self._cookie_name(secure)
        self.cookies[:] = [sent for sent in self.cookies if not sent.startswith(name + b"=")]
        self.addCookie(
            name,
            session.uid,
            domain=cookie.domain,
            path=cookie.path,
            max_age=None if cookie.max_age is None else str(cookie.max_age),
            secure=secure or cookie.always_secure,
            httpOnly=cookie.http_only,
            sameSite=cookie.same_site,
        )

    def _save_sessions(self, held: HeldSessions, may_fail: bool = True) -> None:
        """
        Save all that this request has done so far, and hold the response back until then.

        :param may_fail: whether the request may fail for it.
        """
        self._sessions_settled = True
        self._sessions_held = None
        if held.let_go_unchanged():
            return
        saving = held.settle()
        if not saving.called:
            self._output = []
            if self.producer:
                self.channel.unregisterProducer()
                self._have_producer_wait()
            saving.addCallbacks(self._sessions_saved, self._session_failed)
        elif self.startedWriting or not may_fail:
            saving.addErrback(self._log_unsaved)
        else:
            _raise_failure(saving)

    def _saves_sessions_at_once(self) -> bool:
        """
        See :class:`stickyd.serve.http.request.Request`, which answers in one go then.
        """
        if self._sessions_held is not None:
            self._save_sessions(self._sessions_held)
        return self._output is None

    def _sessions_saved(self, result: object) -> None:
        output, self._output = self._output or [], None
        if self._disconnected:
            return
        for data in output:
            self.write(data)
        if self._output_ends:
            self.finish()
        else:
            self._let_producer_go_on()

    def _session_failed(self, failure: Failure) -> None:
        if self.startedWriting or self._disconnected:
            self._log_unsaved(failure)
            self._sessions_saved(None)
        else:
            self._output = None
            self.processingFailed(failure)

    def _log_unsaved(self, failure: Failure) -> None:
        self._session_log.failure(
            "session: what a request did to it is lost", failure, event="session.change-lost"
        )


def _values_of(fields: Sequence[bytes], name: bytes) -> Iterator[bytes]:
    for field in fields:
        for cookie in field.split(b";"):
            key, _, value = cookie.strip(b" \t").partition(b"=")
            if key == name:
                yield value


def _raise_failure(deferred: Deferred[Any]) -> None:
    """
    Raise what a Deferred that has fired has failed with, if it has.
    """
    if isinstance(deferred.result, Failure):
        failure = deferred.result
        deferred.addErrback(lambda _: None)
        failure.raiseException()
