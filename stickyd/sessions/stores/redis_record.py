"""
How a session is written in Redis: the hash of :mod:`stickyd.sessions.stores.redis_scripts`.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING

from stickyd.sessions.record import HIDDEN, HiddenId, SessionRecord, hidden_id

if TYPE_CHECKING:
    from collections.abc import Sequence

RECORD_FIELDS = ("v", "t", "m", "a", "d")
"""
What is asked for to load a session.
"""

STATE_FIELDS = ("v", "t", "m", "a")
"""
What is asked for to know whether there is one.
"""


@dataclass(frozen=True)
class StoredState:
    """
    What stands in Redis beside the data.
    """

    version: int
    """0 for an alias."""

    due: float
    """When it is over if it is not used again, in seconds since 1970."""

    alias: HiddenId | None
    """The other id that it has now."""


def key_of(prefix: bytes, uid: bytes) -> bytes:
    """
    The key of a session: never its id.
    """
    return prefix + hidden_id(uid)[len(HIDDEN) :]


def digest_of(uid: bytes) -> bytes:
    """
    The hash of an id, which its data is bound to if it is encrypted.
    """
    return bytes.fromhex(hidden_id(uid)[len(HIDDEN) :].decode("ascii"))


def write_metadata(record: SessionRecord) -> bytes:
    """
    Write what does not change with a use.
    """
    return _metadata(record.idle, record.created, record.lifetime, record.secure, record.key)


@lru_cache(1024)
def _metadata(idle: float, created: float, lifetime: float, secure: bool, key: bytes) -> bytes:
    fields = [
        _finite(idle),
        _finite(created + lifetime),
        created,
        _finite(lifetime),
        secure,
        b64encode(key).decode("ascii"),
    ]
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def write_alias_metadata(seconds: float) -> bytes:
    """
    Write the same of an alias that is over after so many seconds.
    """
    return json.dumps([_finite(seconds), None]).encode("ascii")


def read_state(values: Sequence[bytes | None]) -> StoredState | None:
    """
    Read what ``HMGET`` gives for :data:`STATE_FIELDS`.

    :return: :obj:`None` if there is nothing.
    :raise ValueError: it is something else.
    """
    version, touched, metadata, alias = values
    if version is None and alias is None:
        if metadata is None and touched is None:
            return None
        raise ValueError("it has neither a version nor an alias")
    try:
        idle, end, *_ = json.loads(metadata or b"")
        due = min(float(touched or b"") + _number(idle), _number(end))
    except TypeError as error:
        raise ValueError(f"its metadata are no such: {error}") from error
    if alias is None:
        return StoredState(int(version or b""), due, None)
    if len(alias) != 64:
        raise ValueError("its alias is none")
    return StoredState(0, due, HiddenId(HIDDEN + alias))


def read_record(uid: bytes, values: Sequence[bytes | None]) -> SessionRecord:
    """
    Read what ``HMGET`` gives for :data:`RECORD_FIELDS` of a session.

    :return: its data may be encrypted.
    :raise ValueError: it is no session.
    """
    version, touched, metadata, _, data = values
    if version is None or touched is None or metadata is None or data is None:
        raise ValueError("one of its fields is missing")
    try:
        idle, _, created, lifetime, secure, key = json.loads(metadata)
        record = SessionRecord(
            uid=uid,
            version=int(version),
            created=float(created),
            touched=float(touched),
            idle=_number(idle),
            lifetime=_number(lifetime),
            data=data,
            key=b64decode(key, validate=True),
            secure=bool(secure),
        )
    except TypeError as error:
        raise ValueError(f"its metadata are no such: {error}") from error
    return record


def _finite(number: float) -> float | None:
    return None if number == inf else number


def _number(value: float | None) -> float:
    return inf if value is None else float(value)
