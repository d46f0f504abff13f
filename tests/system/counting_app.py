"""
An ASGI application that counts in sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.asgi import SessionMiddleware

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def _count_up(session: Any) -> int:
    session["n"] = session.get("n", 0) + 1
    count: int = session["n"]
    return count


async def count(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """
    ``/read`` says the count, ``/change`` counts up as a view would, ``/add`` in a transaction,
    ``/add/7`` in seven, ``/logout`` ends the session.
    """
    if scope["type"] != "http":
        return
    session, path = scope["session"], scope["path"]
    if path == "/read":
        body = session.get("n", 0)
    elif path == "/change":
        body = _count_up(session)
    elif path.startswith("/add"):
        for _ in range(int(path.partition("/add/")[2] or 1)):
            body = await session.transact(_count_up)
    elif path == "/logout":
        session.flush()
        body = 0
    text = str(body).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def nothing(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """
    Answer without a session.
    """
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


_counting = SessionMiddleware(count)


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    """
    The application: ``/none`` has no session, all else has.
    """
    if scope["type"] == "http":
        await (nothing if scope["path"] == "/none" else _counting)(scope, receive, send)
