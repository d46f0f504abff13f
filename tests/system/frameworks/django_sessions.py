"""
Django with our session engine, for ASGI and for WSGI.
"""
# mypy: disable-error-code="import-untyped,no-any-unimported,misc"
# (Django has no annotations of its own.)

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

from tests.system.frameworks.waiting import wait_at_gate

if TYPE_CHECKING:
    from django.http import HttpRequest

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the tests",
    ALLOWED_HOSTS=["*"],
    USE_TZ=True,
    MIDDLEWARE=["stickyd.django.SessionMiddleware"],
    SESSION_ENGINE="stickyd.django",
    SESSION_COOKIE_NAME="session",
)
django.setup()


def _count(request: HttpRequest) -> JsonResponse:
    request.session["n"] = request.session.get("n", 0) + 1
    return _look(request)


def _wait(request: HttpRequest) -> JsonResponse:
    request.session["waited"] = True
    wait_at_gate()
    return _look(request)


def _look(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"pid": os.getpid(), **dict(request.session.items())})


def _logout(request: HttpRequest) -> JsonResponse:
    request.session.flush()
    return _look(request)


def _renew(request: HttpRequest) -> JsonResponse:
    request.session.flush()
    return _count(request)


urlpatterns = [
    *(path("count", _count), path("wait", _wait), path("look", _look)),
    *(path("logout", _logout), path("renew", _renew)),
]

asgi = get_asgi_application()
wsgi = get_wsgi_application()
