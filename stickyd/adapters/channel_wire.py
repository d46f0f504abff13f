"""
What channel layers say to each other on the bus.

A line of words, the first of which says what is meant, and the data after it.  Names of channels
and groups have no blanks in them (``channels.layers.BaseChannelLayer``).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Said(Enum):
    """
    What may be said, and the words that follow.
    """

    #: To whoever has members of a group: origin.  A message to the group.
    GROUP = "group"
    #: To one process: channel.  A message to a channel of its own, or one that it waits for.
    SEND = "send"
    #: To all, or to one: origin, group, channel.
    ADD = "add"
    DISCARD = "discard"
    #: To all, or to one: origin, channel.  I wait for a message there; I do not any more.
    WANT = "want"
    UNWANT = "unwant"
    #: To all: origin.  I am new.
    HELLO = "hello"
    #: To all: origin.  Forget everything.
    FLUSH = "flush"


#: How many words follow.
_WORDS = {
    Said.GROUP: 1,
    Said.SEND: 1,
    Said.ADD: 3,
    Said.DISCARD: 3,
    Said.WANT: 2,
    Said.UNWANT: 2,
    Said.HELLO: 1,
    Said.FLUSH: 1,
}


class Notice(NamedTuple):
    """
    What was said.
    """

    said: Said
    words: tuple[str, ...]
    data: bytes


def write(said: Said, *words: str, data: bytes = b"") -> bytes:
    """
    Write a notice.
    """
    return b"%b\n%b" % (" ".join((said.value, *words)).encode("ascii"), data)


def read(payload: bytes) -> Notice:
    """
    Read a notice.

    :raises ValueError: if it is none.
    """
    line, newline, data = payload.partition(b"\n")
    first, *words = line.decode("ascii").split(" ")
    said = Said(first)
    if not newline or len(words) != _WORDS[said]:
        raise ValueError(f"{len(words)} words after {first!r}")
    return Notice(said, tuple(words), data)
