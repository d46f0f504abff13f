"""
Puts our middleware in the place of Starlette's, for its own tests.
"""
# mypy: disable-error-code="misc,assignment"

from __future__ import annotations

from typing import Any

import starlette.middleware.sessions as theirs

from stickyd.asgi import SessionMiddleware as OurMiddleware
from stickyd.asgi import app_cookie
from stickyd.sessions.apps.tracked import TrackedData
from stickyd.sessions.plain import encode


class SessionMiddleware(OurMiddleware):
    """
    Takes the arguments of Starlette's.
    """

    def __init__(
        self, app: Any, secret_key: str, max_age: int | None = 1_209_600, **cookie: Any
    ) -> None:
        cookie.pop("partitioned", None)
        super().__init__(app, cookie=app_cookie(max_age=max_age, **cookie))


class Session(TrackedData):
    """
    Is made as Starlette's is.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(encode(data))


theirs.SessionMiddleware = SessionMiddleware
theirs.Session = Session
