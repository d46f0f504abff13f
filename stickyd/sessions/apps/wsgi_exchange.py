"""
One request to a WSGI application, and what it does to its session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from stickyd.errors import SessionError, StoreAway
from stickyd.sessions.apps.cookies import ids_in, set_cookie, varying
from stickyd.sessions.apps.refusal import refusal_of
from stickyd.sessions.apps.unit_of_work import UnitOfWork
from stickyd.sessions.apps.wsgi_session import WsgiSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stickyd.sessions.apps.place import SessionPlace
    from stickyd.sessions.web.cookie import SessionCookie

    Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WsgiExchange:
    """
    Gives a request a session, and saves it when the response begins, and when it is over.

    It is the response too: the iterable that the server takes it from.
    """

    _log = Logger()

    def __init__(
        self,
        place: SessionPlace,
        cookie: SessionCookie,
        conflict: Application | None,
        environ: dict[str, Any],
        start_response: Callable[..., Any],
    ) -> None:
        """
        :param place: where sessions are.
        :param conflict: answers a request whose changes could not be saved, as others have
            changed the same; by default there is a short 409.
        """
        self._environ = environ
        self._start_response = start_response
        self._cookie = cookie
        self._conflict = conflict
        self._secure = environ.get("wsgi.url_scheme") == "https"
        self._name = cookie.name_for(self._secure)
        fields = [environ.get("HTTP_COOKIE", "").encode("latin-1", "replace")]
        uids = ids_in(fields, self._name)
        unit = UnitOfWork.of_request(place.registry, uids, self._secure, environ)
        self._unit = unit
        self._result: Any = ()
        self._refused = False  # nobody hears the application any more
        self._begun = False
        self.session = environ["stickyd.session"] = WsgiSession(place, unit)

    def run(self, application: Application) -> Iterable[bytes]:
        """
        Call the application.

        :return: the response.
        """
        try:
            self._result = application(self._environ, self._begin)
        except Exception as problem:
            if problem is not self.session.failure or not self._may_excuse():
                self._let_go()
                raise
        if self._refused:
            return self._refusal()
        if self._begun and isinstance(
            self._result, (list, tuple, self._environ.get("wsgi.file_wrapper", tuple))
        ):
            # Nothing of the application's runs any more; and the server knows what to do with
            # such a result.
            self._save_rest()
            return self._result
        return self

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._result:
                if self._refused:
                    break
                yield piece
        except Exception as problem:
            if problem is not self.session.failure or not self._may_excuse():
                raise
        if self._refused:
            yield from self._refusal()

    def close(self) -> None:
        """
        Called when the response is over, or nobody takes it any more.
        """
        try:
            close = getattr(self._result, "close", None)
            if close is not None:
                close()
        finally:
            if self._begun and not self._refused:
                self._save_rest()
            else:
                self._let_go()

    def _begin(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], Any]:
        """
        Save the session before the response begins: the application's ``start_response``.
        """
        if not self._begun and not self._refused:
            # An error that the application has made a page of may be none of its own.
            if status.startswith("500") and self._may_excuse():
                return _nobody
            try:
                headers = self._saved(headers)
            except (SessionError, StoreAway):
                if not self._may_excuse():
                    raise
        if self._refused:
            return _nobody
        self._begun = True
        if exc_info is None:
            return self._start_response(status, headers)  # type: ignore[no-any-return]
        return self._start_response(status, headers, exc_info)  # type: ignore[no-any-return]

    def _saved(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        session, unit = self.session, self._unit
        if not session.loaded:
            return headers
        session.finish()
        session.answered()
        headers = list(headers)
        if session.accessed and not varying(
            value.encode("latin-1") for name, value in headers if name.lower() == "vary"
        ):
            headers.append(("Vary", "Cookie"))
        uid = unit.cookie(session.modified)
        if uid is not None:
            line = set_cookie(self._cookie, self._name, uid, self._secure)
            headers.append(("Set-Cookie", line.decode("latin-1")))
        return headers

    def _save_rest(self) -> None:
        try:
            self.session.finish()
        except Exception:  # noqa: BLE001 - whatever it is, the response has gone
            self._log.failure(
                "session: what a request did after its response began is lost",
                event="session.late-change-lost",
            )

    def _let_go(self) -> None:
        self.session.abandon()

    def _may_excuse(self) -> bool:
        """
        Find out whether to answer in the application's place, and do so from now on.
        """
        if not self._begun and refusal_of(self.session.failure) is not None:
            self._refused = True
        return self._refused

    def _refusal(self) -> Iterable[bytes]:
        """
        Answer in the application's place.
        """
        self._let_go()
        refusal = refusal_of(self.session.failure)
        assert refusal is not None
        if refusal.status == 409 and self._conflict is not None:
            return self._conflict(self._environ, self._start_response)
        self._start_response(f"{refusal.status} {refusal.reason}", refusal.fields())
        return [refusal.body]


def _nobody(data: bytes) -> None:
    """
    Take what nobody will hear.
    """
