"""
The figures of the whole server, which the primary keeps.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from stickyd.figures.app_figures import AppFigures
from stickyd.figures.page import NUMBERS
from stickyd.figures.slot_figures import SlotFigures

if TYPE_CHECKING:
    from collections.abc import Iterable

REFUSED = "refused"
"""Connections that no worker got, by reason."""
PEEKED = "peeked"
"""What became of connections whose first bytes did not simply say where they belong."""
TOKENS = "tokens"
"""Tokens that the primary has looked at and that were not ours: ``refused``."""


class FleetFigures:
    """
    One :class:`SlotFigures` for each slot that there has ever been, and what the primary counts
    by itself.

    For whoever shows figures (``stickyctl``, metrics, the dashboard):
    :func:`stickyd.fleet.report.report_on` makes one consistent, ready-to-show view of all this
    and of the workers as they are at the moment; counters that never go back are here.

    :ivar application: what the application counts by itself.
    """

    def __init__(self) -> None:
        self._slots: dict[int, SlotFigures] = {}
        self._counters: dict[str, Counter[str]] = {}
        self.application = AppFigures()

    def slot(self, index: int) -> SlotFigures:
        """
        The figures of a slot, which may not be there any more.
        """
        found = self._slots.get(index)
        if found is None:
            found = self._slots[index] = SlotFigures(index)
        return found

    def slots(self) -> Iterable[SlotFigures]:
        """
        Those of every slot that there has ever been, by index.
        """
        return [self._slots[index] for index in sorted(self._slots)]

    def counter(self, name: str) -> Counter[str]:
        """
        A counter of the primary's own, which whoever counts is given.

        :param name: one of the names above.
        """
        return self._counters.setdefault(name, Counter())

    @property
    def numbers(self) -> list[int]:
        """
        The numbers of all slots together, see :mod:`stickyd.figures.page`.
        """
        together = [each.numbers for each in self._slots.values()]
        return [sum(column) for column in zip(*together, strict=True)] or [0] * NUMBERS

    # a primary that replaces itself

    def dump_state(self) -> dict[str, Any]:
        """
        All of it as JSON can carry it.
        """
        return {
            "slots": [each.dump_state() for each in self.slots()],
            "application": self.application.dump_state(),
            "counters": {name: dict(counter) for name, counter in self._counters.items()},
        }

    def restore_state(self, plain: dict[str, Any]) -> None:
        """
        Go on from what :meth:`dump_state` gave; before anybody counts.
        """
        for each in plain["slots"]:
            self.slot(each["index"]).restore_state(each)
        self.application.restore_state(plain.get("application", ()))
        for name, counts in plain["counters"].items():
            self.counter(name).update(counts)
