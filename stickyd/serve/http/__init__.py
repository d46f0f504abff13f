"""
HTTP/1.1 for Twisted resources, on llhttp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stickyd.affinity.peek.http1 import Head
    from stickyd.serve.access_log import AccessLog
    from stickyd.serve.http.connection import HTTPChannel
    from stickyd.serve.http.context import HTTPContext
    from stickyd.serve.http.head import RequestError
    from stickyd.serve.http.limits import HTTPLimits
    from stickyd.serve.http.request import Request
    from stickyd.serve.http.site import HTTPSite

__all__ = [
    "AccessLog",
    "HTTPChannel",
    "HTTPContext",
    "HTTPLimits",
    "HTTPSite",
    "Head",
    "Request",
    "RequestError",
]

#: Imported when they are asked for: twisted.web is 60 ms of a start, and hosts that have parts of
#: this package without it (ASGI's) do not pay for it.
_MODULES = {
    "AccessLog": "stickyd.serve.access_log",
    "HTTPChannel": "stickyd.serve.http.connection",
    "HTTPContext": "stickyd.serve.http.context",
    "HTTPLimits": "stickyd.serve.http.limits",
    "HTTPSite": "stickyd.serve.http.site",
    "Head": "stickyd.affinity.peek.http1",
    "Request": "stickyd.serve.http.request",
    "RequestError": "stickyd.serve.http.head",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = found
    return found
