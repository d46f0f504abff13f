"""
Small pages, and a request for one.
"""

from __future__ import annotations

from typing import Any


def plain(request: Any) -> bytes:
    """
    A short page.
    """
    return b"plain"


def fails(request: Any) -> bytes:
    """
    A page with a mistake.
    """
    raise ZeroDivisionError("secret")


def request_for(line: bytes = b"GET /", *fields: bytes, body: bytes = b"") -> bytes:
    """
    A request, on HTTP/1.1.
    """
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: a.example", *fields, b"", body])
