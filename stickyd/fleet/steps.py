"""
How far the change of the fleet is that is under way, for whoever wants to hear it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime


@dataclass(frozen=True)
class Step:
    """
    One step of a change.

    :ivar change: ``reload``, ``resize``, ``drain``, ``undrain``.
    :ivar text: what was done, or begins, for people.
    :ivar slot: the slot that it is about, or None.
    :ivar done: how many steps are done; None if nobody counts.
    :ivar total: how many there are.
    """

    change: str
    text: str
    slot: int | None = None
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Change:
    """
    A change of the fleet.

    :ivar what: as in :class:`Step`.
    :ivar at: when it began, or ended, in the clock's seconds.
    :ivar problems: why it was not done, or not wholly; empty if it was.
    """

    what: str
    at: float
    problems: tuple[str, ...] = ()


class Steps:
    """
    Passes on the steps of each change, and remembers the last one.

    :ivar last: the one that has ended last; None if none has.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._watchers: list[Callable[[Step], object]] = []
        self._under_way: list[Change] = []
        self.last: Change | None = None

    def watch(self, told: Callable[[Step], object]) -> Callable[[], None]:
        """
        Have ``told`` called with each step.

        :return: ends that; it may be called twice.
        """
        self._watchers.append(told)

        def stop() -> None:
            if told in self._watchers:
                self._watchers.remove(told)

        return stop

    @property
    def under_way(self) -> Change | None:
        """
        The change that goes on; the one that has begun last, if one waits for another.
        """
        return self._under_way[-1] if self._under_way else None

    def begin(self, what: str) -> Change:
        """
        Called when a change begins.

        :return: it, for :meth:`end`.
        """
        change = Change(what, self._clock.seconds())
        self._under_way.append(change)
        return change

    def end(self, change: Change, *problems: str) -> None:
        """
        Called when it has ended.

        :param problems: why it was not done, or not wholly.
        """
        self._under_way = [each for each in self._under_way if each is not change]
        self.last = Change(change.what, self._clock.seconds(), problems)

    def tell(self, step: Step) -> None:
        """
        Pass a step on.
        """
        for told in list(self._watchers):
            told(step)
