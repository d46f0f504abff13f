"""
The cookie of an application's session: reading it, and writing it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stickyd.sessions.web.cookie import SessionCookie

#: An id as we make them, and as Django does.  What is none is nobody's session.
_ID = re.compile(rb"[0-9A-Za-z]{16,128}")

#: How many cookies of one name are looked at: a browser sends those of several paths.
MOST_IDS = 4

_EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"


def is_id(text: bytes) -> bool:
    """
    Tell whether a text can be a session's id.
    """
    return _ID.fullmatch(text) is not None


def ids_in(fields: Iterable[bytes], name: bytes) -> list[bytes]:
    """
    Find the ids that a client sends.

    :param fields: its fields ``Cookie``.
    :param name: of the cookie.
    :return: at most four, those that are damaged left out.
    """
    found: list[bytes] = []
    for field in fields:
        if name not in field:
            continue
        for pair in field.split(b";"):
            key, _, value = pair.strip(b" \t").partition(b"=")
            if key == name:
                found.append(value.strip(b'"'))
    return ids_among(found)


def ids_among(values: Iterable[bytes]) -> list[bytes]:
    """
    Find the ids among the values of a client's cookies of one name.

    :return: at most four, those that are damaged left out.
    """
    ids = dict.fromkeys(value for value in values if is_id(value))
    return list(ids)[:MOST_IDS]


def set_cookie(cookie: SessionCookie, name: bytes, uid: bytes, secure: bool) -> bytes:
    """
    Write a field ``Set-Cookie``, as Starlette's looks.

    :param name: of the cookie.
    :param uid: the session's id; nothing to have the browser forget the cookie.
    :param secure: whether the client speaks TLS.
    """
    parts = [f"{name.decode('ascii')}={uid.decode('ascii')}", f"path={cookie.path}"]
    if cookie.domain:
        parts.append(f"domain={cookie.domain}")
    if not uid:
        parts += ["Max-Age=0", f"expires={_EPOCH}"]
    elif cookie.max_age is not None:
        parts.append(f"Max-Age={cookie.max_age}")
    if secure or cookie.always_secure:
        parts.append("secure")
    if cookie.http_only:
        parts.append("httponly")
    if cookie.same_site is not None:
        parts.append(f"samesite={cookie.same_site}")
    return "; ".join(parts).encode("latin-1")


def varying(values: Iterable[bytes]) -> bool:
    """
    Tell whether a response says already that it depends on cookies.

    :param values: of its fields ``Vary``.
    """
    named = {name.strip().lower() for value in values for name in value.split(b",")}
    return bool(named & {b"cookie", b"*"})
