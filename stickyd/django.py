"""
What Django's settings may name: ``SESSION_ENGINE = "stickyd.django"``, and in ``MIDDLEWARE``
``"stickyd.django.SessionMiddleware"``.
"""

from __future__ import annotations

from stickyd.sessions.apps.django_middleware import SessionMiddleware as SessionMiddleware
from stickyd.sessions.apps.django_store import SessionStore as SessionStore
