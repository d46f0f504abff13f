"""
Whose turn it is to send: the extensible priorities of RFC 9218.
"""

from __future__ import annotations

import re

#: What a request is that says nothing; 0 is the most urgent, 7 the least.
DEFAULT_URGENCY = 3

_URGENCIES = 8

# As much of a dictionary of structured fields (RFC 9651) as the two parameters need.
_urgency = re.compile(rb"(?:^|,)[ \t]*u=([0-7])[ \t]*(?:;[^,]*)?(?=,|$)").search
_incremental = re.compile(rb"(?:^|,)[ \t]*i(?:=\?([01]))?[ \t]*(?:;[^,]*)?(?=,|$)").search


def priority_of(field: bytes | None) -> tuple[int, bool]:
    """
    Read the field ``Priority``.

    :param field: its value, or :obj:`None` if the request has none.
    :return: the urgency, and whether the response is of use in parts, so that it shares its
        turn with others.  Without the field it does, as older clients expect.
    """
    if field is None:
        return DEFAULT_URGENCY, True
    urgency = _urgency(field)
    incremental = _incremental(field)
    return (
        DEFAULT_URGENCY if urgency is None else int(urgency[1]),
        incremental is not None and incremental[1] != b"0",
    )


class Schedule:
    """
    The streams that have something to send and room for it.

    The most urgent ones come first; among equals, those in parts take turns, and another one
    goes on until it is done.
    """

    def __init__(self) -> None:
        self._priorities: dict[int, tuple[int, bool]] = {}
        # Of each urgency the streams in the order of their turns; a dict is an ordered set.
        self._ready: list[dict[int, None]] = [{} for _ in range(_URGENCIES)]

    def add(self, number: int, priority: tuple[int, bool]) -> None:
        """
        Learn of a stream, which has nothing to send yet.
        """
        self._priorities[number] = priority

    def remove(self, number: int) -> None:
        """
        Forget a stream.
        """
        urgency, _ = self._priorities.pop(number)
        self._ready[urgency].pop(number, None)

    def ready(self, number: int) -> None:
        """
        Give a stream its turns.
        """
        urgency, _ = self._priorities[number]
        self._ready[urgency].setdefault(number)

    def block(self, number: int) -> None:
        """
        Give a stream no turn until it is ready again.
        """
        urgency, _ = self._priorities[number]
        self._ready[urgency].pop(number, None)

    def next(self) -> int | None:
        """
        Tell whose turn it is; :obj:`None` if nobody is ready.
        """
        for streams in self._ready:
            for number in streams:
                _, incremental = self._priorities[number]
                if incremental and len(streams) > 1:
                    del streams[number]
                    streams[number] = None
                return number
        return None
