"""
The demonstration's answer as a WSGI application, for gunicorn.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Counter:
    """
    Counts the requests of each client address.
    """

    def __init__(self) -> None:
        self._hits: dict[str, int] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        client = environ["REMOTE_ADDR"]
        hits = self._hits[client] = self._hits.get(client, 0) + 1
        body = b"Worker %d session hits: %d\n" % (os.getpid(), hits)
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


app = Counter()
