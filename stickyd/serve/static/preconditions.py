"""
Conditional requests: whether a client has what it asks for, and whether it gets a part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.web.http import stringToDatetime

if TYPE_CHECKING:
    from collections.abc import Callable

    Fields = Callable[[bytes], bytes | None]

OK, NOT_MODIFIED, PRECONDITION_FAILED = 200, 304, 412

_entity_tags = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")').findall


@dataclass(frozen=True)
class Version:
    """
    What tells a client one version of a file from another.

    :ivar etag: a strong entity-tag, with its quotes.
    :ivar modified_seconds: when it was modified, in whole seconds since the epoch.
    """

    etag: bytes
    modified_seconds: int


def evaluate(fields: Fields, version: Version) -> int:
    """
    Evaluate the preconditions of a GET or HEAD in the order of RFC 9110, section 13.2.2.

    :param fields: gives the value of a request field, lists joined by commas.
    :return: :data:`OK`, :data:`NOT_MODIFIED` or :data:`PRECONDITION_FAILED`.
    """
    wanted = fields(b"if-match")
    if wanted is not None:
        if not _matches(wanted, version, strong=True):
            return PRECONDITION_FAILED
    else:
        since = _seconds_of(fields(b"if-unmodified-since"))
        if since is not None and version.modified_seconds > since:
            return PRECONDITION_FAILED
    known = fields(b"if-none-match")
    if known is not None:
        return NOT_MODIFIED if _matches(known, version, strong=False) else OK
    since = _seconds_of(fields(b"if-modified-since"))
    return OK if since is None or version.modified_seconds > since else NOT_MODIFIED


def takes_part(if_range: bytes | None, version: Version) -> bool:
    """
    Tell whether a part fits to what the client has (RFC 9110, section 13.1.5): that is so
    only if what it has is this very version.

    :param if_range: the field's value: one entity-tag, not a weak one, or a date.
    """
    if if_range is None:
        return True
    if if_range.startswith((b'"', b"W/")):
        return if_range == version.etag
    return _seconds_of(if_range) == version.modified_seconds


def _matches(value: bytes, version: Version, strong: bool) -> bool:
    if value == b"*":
        return True
    return any(tag == version.etag and not (strong and weak) for weak, tag in _entity_tags(value))


def _seconds_of(date: bytes | None) -> int | None:
    """
    Read an HTTP date; what is none counts as absent, as RFC 9110 wants it.
    """
    if date is None:
        return None
    try:
        return int(stringToDatetime(date))
    except (ValueError, LookupError, OverflowError):
        return None
