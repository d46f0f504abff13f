"""
Small ASGI applications with sessions.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stickyd.sessions.apps.asgi_middleware import with_sessions
from stickyd.sessions.apps.attributes import app_cookie

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stickyd.sessions.apps.asgi_session import AsgiSession
    from stickyd.sessions.apps.worker_place import WorkerPlace

    View = Callable[[AsgiSession], Awaitable[Any]]


def answering(view: View) -> Any:
    """
    Make an application of a function that gets the session, and gives what to answer.
    """

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        body = json.dumps(await view(scope["session"])).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return application


def serving(place: WorkerPlace, view: View, **attributes: Any) -> Any:
    """
    Give it sessions.
    """
    return with_sessions(answering(view), place, app_cookie(**attributes))


async def count(session: AsgiSession) -> int:
    """
    Count hits.
    """
    session["hits"] = session.get("hits", 0) + 1
    return int(session["hits"])


async def look(session: AsgiSession) -> Any:
    """
    Show all.
    """
    return dict(session)


async def ignore(session: AsgiSession) -> str:
    """
    Do not use the session at all.
    """
    return "nothing"
