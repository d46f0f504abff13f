"""
Applications that serve the files of the folder in ``FOLDER``: what :mod:`benchmarks.files` fetches.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FOLDER = os.environ.get("FOLDER", ".")

asgi = StaticFiles(directory=FOLDER)
"""
Starlette's, which name a file to a server that says that it sends such, and read it elsewhere.
"""


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """
    Send a file by the server's ``wsgi.file_wrapper``; ranges are not asked for.
    """
    path = os.path.join(FOLDER, os.path.basename(environ["PATH_INFO"]))
    start_response("200 OK", [("Content-Length", str(os.stat(path).st_size))])
    file = open(path, "rb")  # noqa: SIM115 - the server closes it
    wrapped: Iterable[bytes] = environ.get("wsgi.file_wrapper", FileWrapper)(file)
    return wrapped
