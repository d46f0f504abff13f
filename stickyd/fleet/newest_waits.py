"""
One thing at a time, and of those that wait the newest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

Wanted = TypeVar("Wanted")
Outcome = TypeVar("Outcome")


class NewestWaits(Generic[Wanted, Outcome]):
    """
    Does what is asked for, one at a time.  What is asked for meanwhile waits, and of all that
    waits only the last is done: what was asked for before it is out of date.

    :ivar is_busy: whether something is being done.
    """

    def __init__(self, act: Callable[[Wanted | None], Deferred[Outcome]]) -> None:
        """
        :param act: does it; is given what was asked for, :obj:`None` if nothing in particular was.
        """
        self._act = act
        self._wanted: Wanted | None = None
        self._waiting: list[Deferred[Outcome]] = []
        self.is_busy = False

    def ask(self, wanted: Wanted | None) -> Deferred[Outcome]:
        """
        Have it done.

        :param wanted: what; :obj:`None` for whatever waits already.
        :return: fires with the outcome.
        """
        if wanted is not None:
            self._wanted = wanted
        told: Deferred[Outcome] = Deferred()
        self._waiting.append(told)
        if not self.is_busy:
            self._begin()
        return told

    def _begin(self) -> None:
        self.is_busy = True
        wanted, self._wanted = self._wanted, None
        waiting, self._waiting = self._waiting, []
        self._act(wanted).addBoth(self._ended, waiting)

    def _ended(self, outcome: Outcome | Failure, waiting: list[Deferred[Outcome]]) -> None:
        self.is_busy = False
        if self._waiting:
            self._begin()
        for told in waiting:
            if isinstance(outcome, Failure):
                told.errback(outcome)
            else:
                told.callback(outcome)
