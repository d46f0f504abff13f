"""
What fleets send to one another by way of Redis: some messages of one worker, one after the other.

Behind a header stand the frames, as on the bus itself.  The number of the first message says how
many have been lost before it, and whether it has come already.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from stickyd.errors import FrameError
from stickyd.messaging.frame import Frame, FrameBuffer, Kind

#: The form and its version.
_MARK = b"SBU1"

#: The name of a fleet, and of a worker.
NAME_BYTES = 8

_HEADER = Struct("!4s8s8sQI")


@dataclass(frozen=True)
class Parcel:
    """
    Messages of one worker.

    :ivar fleet: the name of its fleet.
    :ivar worker: its own.
    :ivar first: the number of the first message; the worker counts all that it publishes, from 0.
    :ivar messages: frames of the kind ``PUBLISH``.
    """

    fleet: bytes
    worker: bytes
    first: int
    messages: list[Frame]


def pack(fleet: bytes, worker: bytes, first: int, frames: list[bytes]) -> bytes:
    """
    Write some messages.

    :param frames: as :func:`stickyd.messaging.frame.encode` writes them.
    """
    return _HEADER.pack(_MARK, fleet, worker, first, len(frames)) + b"".join(frames)


def unpack(data: bytes) -> Parcel:
    """
    Read what another fleet has sent.

    :raises FrameError: if it is something else.
    """
    if len(data) < _HEADER.size:
        raise FrameError(f"{len(data)} bytes, which is less than a header")
    mark, fleet, worker, first, count = _HEADER.unpack_from(data)
    if mark != _MARK:
        raise FrameError(f"{mark!r}, which is not of this version's form")
    buffer = FrameBuffer()
    messages = buffer.feed(data[_HEADER.size :])
    if buffer.unread or len(messages) != count:
        raise FrameError(f"{len(messages)} whole messages, where {count} were announced")
    if any(kind != Kind.PUBLISH for kind, _, _ in messages):
        raise FrameError("a frame that is no message")
    return Parcel(fleet, worker, first, messages)


class Numbers:
    """
    Knows which messages of other workers have come, and how many have not.
    """

    #: How many workers are remembered; those of which nothing was heard for longest are not.
    MOST_WORKERS = 4096

    def __init__(self) -> None:
        self._next: dict[bytes, int] = {}

    def take(self, parcel: Parcel) -> tuple[list[Frame], int]:
        """
        Take a parcel.

        :return: the messages that have not come yet, and how many were lost before them.
        """
        known = self._next.pop(parcel.worker, parcel.first)
        after = parcel.first + len(parcel.messages)
        self._next[parcel.worker] = max(known, after)
        if len(self._next) > self.MOST_WORKERS:
            del self._next[next(iter(self._next))]
        if known > parcel.first:
            return parcel.messages[known - parcel.first :], 0
        return parcel.messages, parcel.first - known
