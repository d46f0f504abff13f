"""
HTTP/1.1 for Twisted resources, on llhttp.
"""

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
