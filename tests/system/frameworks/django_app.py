"""
Django in one file, for ASGI and for WSGI.
"""
# mypy: disable-error-code="import-untyped,no-any-unimported,misc"
# (Django has no annotations of its own.)

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
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


def _form(request: HttpRequest) -> JsonResponse:
    return JsonResponse(request.POST.dict())


def _body(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body, content_type="application/octet-stream")


def _pieces(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(piece for piece in (b"one ", b"", b"two ", b"three"))


def _file(request: HttpRequest) -> FileResponse:
    return FileResponse(Path(__file__).open("rb"))


urlpatterns = [
    path("", _home),
    path("boom", _boom),
    path("form", _form),
    path("body", _body),
    path("pieces", _pieces),
    path("file", _file),
]

asgi = get_asgi_application()
wsgi = get_wsgi_application()
