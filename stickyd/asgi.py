"""
What an ASGI application may import.
"""

from __future__ import annotations

from stickyd.sessions.apps.asgi_middleware import SessionMiddleware as SessionMiddleware
from stickyd.sessions.apps.asgi_session import AsgiSession as AsgiSession
from stickyd.sessions.apps.attributes import app_cookie as app_cookie
