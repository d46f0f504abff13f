"""
Django in one file, for ASGI and for WSGI.
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

if TYPE_CHECKING:
    from django.http import HttpRequest

settings.configure(
    ROOT_URLCONF=__name__, SECRET_KEY="of the tests", ALLOWED_HOSTS=["*"], USE_TZ=True
)
django.setup()


def _home(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"pid": os.getpid(), "host": request.META["REMOTE_ADDR"]})


def _boom(request: HttpRequest) -> JsonResponse:
    raise ValueError("boom")


urlpatterns = [path("", _home), path("boom", _boom)]

asgi = get_asgi_application()
wsgi = get_wsgi_application()
