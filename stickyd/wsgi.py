"""
What a WSGI application may import.
"""

from __future__ import annotations

from stickyd.sessions.apps.attributes import app_cookie as app_cookie
from stickyd.sessions.apps.wsgi_middleware import SessionMiddleware as SessionMiddleware
from stickyd.sessions.apps.wsgi_session import WsgiSession as WsgiSession
