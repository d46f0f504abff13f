"""
One request to an ASGI application, and what it does to its session.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from stickyd.errors import SessionError, StoreAway
from stickyd.sessions.apps.asgi_session import AsgiSession
from stickyd.sessions.apps.cookies import ids_in, set_cookie, varying
from stickyd.sessions.apps.refusal import refusal_of
from stickyd.sessions.apps.unit_of_work import EMPTY, UnitOfWork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stickyd.sessions.apps.place import SessionPlace
    from stickyd.sessions.apps.refusal import Refusal
    from stickyd.sessions.web.cookie import SessionCookie

    Message = Any
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Any, Receive, Send], Awaitable[None]]

#: How often the session of a WebSocket is saved if it has changed, and else noted as used.
WEBSOCKET_SECONDS = 30.0

#: The messages that carry a response's head.
_HEADS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})

#: Those that may be its last.
_BODIES = frozenset(
    {"http.response.body", "http.response.pathsend", "websocket.http.response.body"}
)


class AsgiExchange:
    """
    Loads the session, and saves it before the response begins, and when it is over.
    """

    _log = Logger()

    def __init__(
        self,
        place: SessionPlace,
        cookie: SessionCookie,
        conflict: Application | None,
        scope: Any,
        receive: Receive,
        send: Send,
    ) -> None:
        """
        :param place: where sessions are.
        :param conflict: answers a request whose changes could not be saved, as others have
            changed the same; by default there is a short 409.
        """
        self._place = place
        self._scope = scope
        self._receive = receive
        self._send = send
        self._cookie = cookie
        self._conflict = conflict
        self._secure = scope["scheme"] in ("https", "wss")
        self._name = cookie.name_for(self._secure)
        fields = [value for name, value in scope["headers"] if name == b"cookie"]
        uids = ids_in(fields, self._name)
        self._unit = UnitOfWork.of_request(place.registry, uids, self._secure, scope)
        self._begun = False  # the application has begun its response
        self._client_knows = False  # and its head has gone
        self._answered = False  # by us, so that nobody hears the application any more
        self._failed = False  # what has changed cannot be saved
        self._looked = 0.0

    async def run(self, application: Application) -> None:
        """
        Call the application, with a session.
        """
        try:
            unit = self._unit
            text = await self._place.ask(unit.load) if unit.named else EMPTY
        except (SessionError, StoreAway) as problem:
            refusal = refusal_of(problem)
            if refusal is None:
                raise
            await self._refuse(refusal)
            return
        session = self._session = AsgiSession(self._place, unit, load=lambda: text)
        self._scope["session"] = session
        websocket = self._scope["type"] == "websocket"
        self._looked = time.monotonic()
        try:
            if websocket:
                await application(self._scope, self._hear, self._tell)
            else:
                await application(self._scope, self._receive, self._respond)
        except Exception as problem:
            # It has let through what the session has told it: that is not its fault.
            if problem is not session.failure or not (self._answered or await self._excuse()):
                raise
        finally:
            # Without a response the request has failed, and what it did is not done.
            if self._begun:
                await self._save_rest()
            await self._let_go()

    # HTTP.

    async def _respond(self, message: Message) -> None:
        if self._answered:
            return
        kind = message["type"]
        if kind == "http.response.start":
            if message["status"] == 500 and await self._excuse():
                return
            try:
                message = await self._saved(message)
            except (SessionError, StoreAway):
                if not await self._excuse():
                    raise
                return
        elif kind in _BODIES and not message.get("more_body", False):
            # Before the client knows that it is over, and asks for more.
            await self._save_rest()
        await self._send(message)

    async def _saved(self, message: Message) -> Message:
        """
        Save the session, and say in the head of the response what follows for the client.
        """
        self._begun = True
        session = self._session
        if not self._failed:
            self._failed = True  # unless it goes well
            if session.pending:
                await session.save()
            self._failed = False
        session.answered()
        await self._let_go()
        fields = list(message.get("headers", ()))
        if session.accessed and not varying(
            value for name, value in fields if name.lower() == b"vary"
        ):
            fields.append((b"vary", b"Cookie"))
        uid = None if self._failed else self._unit.cookie(session.modified)
        if uid is not None:
            line = set_cookie(self._cookie, self._name, uid, self._secure)
            fields.append((b"set-cookie", line))
        self._client_knows = True
        return {**message, "headers": fields}

    async def _let_go(self) -> None:
        if self._unit.holds:
            await self._place.ask(self._unit.let_go)

    async def _save_rest(self) -> None:
        """
        Save what was done after the response began; nobody can be told any more if that fails.
        """
        if self._failed:
            return
        try:
            if self._session.pending:
                await self._session.save()
        except Exception:  # noqa: BLE001 - whatever it is, the response has gone
            self._failed = True
            self._log.failure(
                "session: what a request did after its response began is lost",
                event="session.late-change-lost",
            )

    async def _excuse(self) -> bool:
        """
        Answer in the application's place if the session could not be had or saved, and nobody
        is to blame for it.

        :return: whether that was done.
        """
        refusal = refusal_of(self._session.failure)
        if self._answered or self._client_knows or refusal is None:
            return False
        await self._refuse(refusal)
        return True

    async def _refuse(self, refusal: Refusal) -> None:
        """
        Answer in the application's place.
        """
        self._begun = self._answered = self._failed = True
        if self._scope["type"] == "websocket":
            await self._send({"type": "websocket.close", "code": 1013, "reason": "Try again"})
            return
        if refusal.status == 409 and self._conflict is not None:
            await self._conflict(self._scope, self._receive, self._send)
            return
        fields = [(name.encode(), value.encode()) for name, value in refusal.fields()]
        await self._send(
            {"type": "http.response.start", "status": refusal.status, "headers": fields}
        )
        await self._send({"type": "http.response.body", "body": refusal.body})

    # WebSockets.

    async def _hear(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.receive":
            await self._now_and_then()
        return message

    async def _tell(self, message: Message) -> None:
        if message["type"] in _HEADS:
            message = await self._saved(message)
        else:
            await self._now_and_then()
        await self._send(message)

    async def _now_and_then(self) -> None:
        """
        Save the session of a WebSocket if it is time, or at least note that it is used.
        """
        now = time.monotonic()
        if now - self._looked < WEBSOCKET_SECONDS or not self._begun:
            return
        self._looked = now
        session = self._session
        try:
            if session.pending:
                await session.save()
            else:
                await self._place.ask(self._unit.fresh)
        except Exception:  # noqa: BLE001 - it is tried again, and at the end
            self._log.failure(
                "session: what a WebSocket did to it is not saved yet",
                event="session.not-saved-yet",
            )
        finally:
            await self._let_go()
