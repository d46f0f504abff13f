"""
What primary and worker say to each other on the bus, in bytes.

A frame is a header, the name of a channel, and a payload::

    +----------------+------+---------+---------+----------+
    | size (4 bytes) | kind | length  | channel | payload  |
    +----------------+------+---------+---------+----------+

``size`` counts channel and payload; ``length`` is that of the channel's name in bytes.  The
primary passes a message on as the bytes that it came in, and never looks at its payload.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

from stickyd.errors import BusLimitError, FrameError

#: The longest name of a channel, in UTF-8.
CHANNEL_BYTES = 255

#: The largest message.
PAYLOAD_BYTES = 4 * 1024 * 1024

HEADER = Struct("!IBB")
_NUMBER = Struct("!Q")

#: A frame that was read: its kind, the name of its channel, and all of its bytes.
Frame = tuple[int, bytes, bytes]


class Kind(IntEnum):
    """
    What a frame says.
    """

    #: Both ways: a message.
    PUBLISH = 1
    #: Worker to primary: I want the messages of this channel.
    SUBSCRIBE = 2
    #: Worker to primary: I do not any more.
    UNSUBSCRIBE = 3
    #: Worker to primary: tell me when you have acted on all that I said before, with this
    #: number.  Primary to worker: I have, on all up to this number.
    SYNC = 4
    #: Primary to worker, first: the name of this fleet, which no other one has.
    HELLO = 5
    #: Worker to primary: so many messages were lost between machines.
    LOST = 6


#: The kind of nearly all frames, as a plain number, which compares in a fifth of the time.
PUBLISH = int(Kind.PUBLISH)

_HEADER_BYTES = HEADER.size
_unpack = HEADER.unpack_from
_KINDS = frozenset(int(kind) for kind in Kind)
_NUMBERED = (int(Kind.SYNC), int(Kind.LOST))


def channel_name(channel: str) -> bytes:
    """
    The name of a channel as frames carry it.

    :raises BusLimitError: if it is empty, too long, or no text that UTF-8 can write.
    """
    if not isinstance(channel, str):
        raise TypeError(f"a channel's name is a str, not {type(channel).__name__}")
    try:
        name = channel.encode()
    except UnicodeEncodeError:
        raise BusLimitError(f"channel {channel!r}: UTF-8 cannot write that name") from None
    if not name:
        raise BusLimitError("a channel's name must not be empty")
    if len(name) > CHANNEL_BYTES:
        raise BusLimitError(
            f"channel {channel[:40]!r}...: its name has {len(name)} bytes in UTF-8, and"
            f" {CHANNEL_BYTES} are the most; use a hash of it"
        )
    return name


def payload_of(data: bytes | bytearray | memoryview) -> bytes:
    """
    A message's data as frames carry it.

    :raises BusLimitError: if it is too large.
    """
    if not isinstance(data, bytes):
        if not isinstance(data, (bytearray, memoryview)):
            raise TypeError(
                f"a message is bytes, not {type(data).__name__}; publish_json() takes plain data"
            )
        data = bytes(data)
    if len(data) > PAYLOAD_BYTES:
        raise BusLimitError(
            f"a message of {len(data)} bytes, and {PAYLOAD_BYTES} are the most; put the data"
            " where all workers find it, and publish where that is"
        )
    return data


def encode(kind: Kind, channel: bytes = b"", payload: bytes = b"") -> bytes:
    """
    Write a frame.

    :param channel: what :func:`channel_name` gave.
    :param payload: what :func:`payload_of` gave.
    """
    return b"%b%b%b" % (
        HEADER.pack(len(channel) + len(payload), kind, len(channel)),
        channel,
        payload,
    )


def encode_number(kind: Kind, number: int) -> bytes:
    """
    Write a frame of the kind ``SYNC`` or ``LOST``.

    :param number: 0 to 2**64 - 1.
    """
    return encode(kind, b"", _NUMBER.pack(number))


def payload_in(frame: Frame) -> bytes:
    """
    The payload of a frame.
    """
    return frame[2][HEADER.size + len(frame[1]) :]


def number_in(frame: Frame) -> int:
    """
    The number of a frame of the kind ``SYNC`` or ``LOST``.
    """
    number: int = _NUMBER.unpack_from(frame[2], HEADER.size)[0]
    return number


class FrameBuffer:
    """
    Cuts a stream of bytes into frames.
    """

    __slots__ = ("_missing_bytes", "_parts")

    def __init__(self, unread: bytes = b"") -> None:
        """
        :param unread: the beginning of a frame.
        """
        self._parts: list[bytes] = [unread] if unread else []
        # How many more bytes there must be before it is worthwhile to look.
        self._missing_bytes = 0

    @property
    def unread(self) -> bytes:
        """
        The beginning of a frame of which the rest is still to come.
        """
        return b"".join(self._parts)

    def feed(self, data: bytes) -> list[Frame]:
        """
        Take some bytes.

        :return: the frames that are complete now.
        :raises FrameError: if it is no frame, or larger than one may be.  What came before it
            is lost with it.
        """
        if not self._parts and len(data) >= _HEADER_BYTES:
            # A message that comes alone and whole, as most do: half the work.
            size, kind, length = _unpack(data)
            after = _HEADER_BYTES + length
            if (
                kind == PUBLISH
                and size + _HEADER_BYTES == len(data)
                and length <= size <= PAYLOAD_BYTES
            ):
                return [(kind, data[_HEADER_BYTES:after], data)]
        elif self._parts:
            self._parts.append(data)
            self._missing_bytes -= len(data)
            if self._missing_bytes > 0:
                return []
            data = b"".join(self._parts)
            self._parts = []
        frames: list[Frame] = []
        offset, end, header_bytes = 0, len(data), HEADER.size
        unpack, kinds = HEADER.unpack_from, _KINDS
        while end - offset >= header_bytes:
            size, kind, length = unpack(data, offset)
            if size > PAYLOAD_BYTES or length > size or kind not in kinds or kind in _NUMBERED:
                _check(size, kind, length)
            after = offset + header_bytes + size
            if after > end:
                self._missing_bytes = after - end
                break
            begin = offset + header_bytes
            frames.append((kind, data[begin : begin + length], data[offset:after]))
            offset = after
        else:
            self._missing_bytes = header_bytes - (end - offset)
        if offset < end:
            self._parts.append(data[offset:])
        return frames


def _check(size: int, kind: int, length: int) -> None:
    """
    :raises FrameError: if there is no such frame.
    """
    if kind not in _KINDS:
        raise FrameError(f"a frame of the unknown kind {kind}")
    if length > size:
        raise FrameError(f"a name of {length} bytes in a frame of {size}")
    if size - length > PAYLOAD_BYTES:
        raise FrameError(f"a payload of {size - length} bytes, and {PAYLOAD_BYTES} are the most")
    if kind in _NUMBERED and (length or size != _NUMBER.size):
        raise FrameError(f"a number of {size} bytes, where {_NUMBER.size} were due")
