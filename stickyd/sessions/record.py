"""
What a store keeps of a session.
"""

from __future__ import annotations

import enum
import secrets
from dataclasses import dataclass
from hashlib import sha256
from math import inf

KEY_LIMIT = 16_384
"""
The longest affinity key, in bytes: no longer than all the header lines of a request
may be, and short enough for a chunk of a transfer.
"""


UNKNOWN_CLIENT = b"?"
"""
The client of a session that has come from another worker, which did not say whose it is: nobody
is known by that.
"""


def new_uid() -> bytes:
    """
    Make an id: 128 random bits, in hexadecimal digits.
    """
    return secrets.token_hex(16).encode("ascii")


#: What the text of a hidden id begins with; no id of an application's own may.
HIDDEN = b"sha256:"


class HiddenId(bytes):
    """
    What stands for an id where that itself is not kept: ``sha256:`` and 64 hexadecimal
    digits.  A durable store has no other in its files, so that who reads them, or a backup
    of them, cannot take anybody's session over.

    It is a type of its own: what a client sends is :class:`bytes`, and never one of these,
    whatever it says.
    """

    __slots__ = ()


def hidden_id(uid: bytes) -> HiddenId:
    """
    Tell what stands for an id.

    :param uid: an id, or what stands for one already.
    """
    if type(uid) is HiddenId:
        return uid
    return HiddenId(HIDDEN + sha256(uid).hexdigest().encode("ascii"))


class EndReason(enum.Enum):
    """
    Why a session is not here any more.
    """

    EXPIRED = "expired"
    """It was not used for too long, or is too old."""

    EVICTED = "evicted"
    """Others needed its place in the store."""

    DELETED = "deleted"
    """The application ended it."""

    MOVED = "moved"
    """It lives on in another worker."""

    SUPERSEDED = "superseded"
    """It lives on, but somebody else wrote it: what is known here is out of date."""

    @property
    def for_good(self) -> bool:
        """
        Whether the session has ended, and not only left.
        """
        return self in (EndReason.EXPIRED, EndReason.EVICTED, EndReason.DELETED)


@dataclass(frozen=True)
class SessionExpiry:
    """
    When a session is over.
    """

    idle: float = 900.0
    """Seconds without a use; as in twisted.web, a quarter of an hour."""

    lifetime: float = inf
    """Seconds since it was made, however much it is used."""

    def __post_init__(self) -> None:
        for name, value in (("idle", self.idle), ("lifetime", self.lifetime)):
            if not value > 0:
                raise ValueError(f"{name} must be more than 0 seconds, not {value!r}")


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """
    A session as it is stored and carried.
    """

    uid: bytes
    """The id: ASCII, never chosen by a client."""

    version: int
    """How many times it was saved; 0 means never."""

    created: float
    """When it was made, in seconds since 1970."""

    touched: float
    """When it was last used, in seconds since 1970."""

    idle: float
    """Seconds without a use after which it is over."""

    lifetime: float
    """Seconds since ``created`` after which it is over; ``inf`` if there is no such limit."""

    data: bytes = b"{}"
    """The application's data, as :func:`stickyd.sessions.plain.encode` makes it."""

    key: bytes = b""
    """The affinity key of its client, or nothing if it is not known."""

    secure: bool = False
    """Whether its id is only ever sent over TLS."""

    alias: bytes = b""
    """
    The id that the session of this one has got instead, and by which it is found as long as
    this record is not over; nothing if this is a session itself.
    """

    client: bytes = b""
    """
    What its client was known by that used it last, where workers keep the clients that they know;
    only in the memory of a worker, and carried from one to the next.
    """

    def due(self) -> float:
        """
        Tell when it is over if it is not used again, in seconds since 1970.
        """
        return min(self.touched + self.idle, self.created + self.lifetime)

    def revised(self, version: int, touched: float, data: bytes) -> SessionRecord:
        """
        Make the record of what a use of the session changes.

        Done with every save: :func:`dataclasses.replace` takes twice as long.
        """
        return SessionRecord(
            self.uid,
            version,
            self.created,
            touched,
            self.idle,
            self.lifetime,
            data,
            self.key,
            self.secure,
            self.alias,
            self.client,
        )
