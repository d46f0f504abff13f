"""
Counting requests, in the worker that serves them.
"""

from __future__ import annotations

from bisect import bisect_left
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

from stickyd.figures.histogram import BOUNDS_SECONDS
from stickyd.figures.page import ANSWERS, BEGUN, DURATION_NS, NUMBERS, UNTIMED, new_page

if TYPE_CHECKING:
    from collections.abc import Sequence

_BOUNDS_NS: Final = tuple(int(bound * 1e9) for bound in BOUNDS_SECONDS)
_FIRST_NS: Final = _BOUNDS_NS[0]
_OK_AT_ONCE: Final = ANSWERS + (200 // 100 << 4)


class RequestCounts:
    """
    Counts the requests of all connections of one worker, whatever their protocol.

    Each request is begun once, and ended once, in one of three ways: :meth:`end` where its
    response was written as a whole, :meth:`drop` where it was not, :meth:`refuse` where it was
    not even begun.  Both ends together cost about half a microsecond.

    :ivar page: the numbers, see :mod:`stickyd.figures.page`.
    """

    __slots__ = ("page",)

    def __init__(self, page: memoryview | None = None) -> None:
        """
        :param page: what is written to, of format ``Q``; one that nobody else reads by default.
        """
        self.page = new_page() if page is None else page

    @property
    def begun(self) -> int:
        """
        How many were begun.
        """
        return self.page[BEGUN]

    def begin(self) -> int:
        """
        Count a request.

        :return: the moment, for the end: in nanoseconds, never 0.
        """
        self.page[BEGUN] += 1
        return perf_counter_ns()

    def end(self, status: int, begun_ns: int) -> None:
        """
        Count its whole response.

        :param status: of the response.
        :param begun_ns: what :meth:`begin` gave.
        """
        took = perf_counter_ns() - begun_ns
        page = self.page
        page[DURATION_NS] += took
        if status == 200 and took <= _FIRST_NS:
            page[_OK_AT_ONCE] += 1  # as most are
            return
        if not 100 <= status < 600:
            status = 500  # no class has it, and no client takes it for a success
        page[ANSWERS + (status // 100 << 4) + bisect_left(_BOUNDS_NS, took)] += 1

    def drop(self, status: int) -> None:
        """
        Count the end of a request whose response was not written as a whole.

        :param status: what the response had begun with; 0 if it had not begun.
        """
        row = status // 100 if 100 <= status < 600 else 0
        self.page[ANSWERS + (row << 4) + UNTIMED] += 1

    def refuse(self, status: int) -> None:
        """
        Count a request that could not be read, and was answered without the application.
        """
        self.page[BEGUN] += 1
        self.drop(status)


def in_flight(numbers: Sequence[int]) -> int:
    """
    How many requests have begun and not ended.

    :param numbers: those of a page, or of several that were added up.
    """
    return max(0, numbers[BEGUN] - sum(numbers[ANSWERS:NUMBERS]))
