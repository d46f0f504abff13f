"""
One worker's part in the choice of a leader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from stickyd.fleet.interfaces import ICandidate

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.fleet.interfaces import IElection


@implementer(ICandidate)
class Candidate:
    """
    Stands for election while the worker serves a slot and its application has asked to lead.
    """

    def __init__(self, election: IElection, label: object, tell: Callable[[int], object]) -> None:
        """
        :param label: names the worker in the log.
        :param tell: has the worker lead, for a term.
        """
        self._election = election
        self._label = label
        self._tell = tell
        self._asks = False
        self._serves = False
        # The term that it leads for, until it has said that it has ended.
        self._term = 0
        self._is_gone = False

    def __str__(self) -> str:
        return str(self._label)

    def lead(self, term: int) -> None:
        self._term = term
        self._tell(term)

    def ask(self, stands: bool) -> None:
        """
        Called when its application wants to lead, or does not any more.
        """
        self._asks = stands
        self._look()

    def serve(self) -> None:
        """
        Called when the worker serves a slot.
        """
        self._serves = True
        self._look()

    def leave(self) -> None:
        """
        Called when the worker was told to end, which makes it end to lead first.
        """
        self._serves = False
        self._look()

    def hold(self, term: int, until: float) -> bool:
        """
        Called when the worker says that it has the lease of all machines.

        :return: whether it leads.
        """
        if self._term and not self._is_gone:
            self._election.hold(term, until)
        return self._is_gone or self._term != 0

    def end(self, term: int) -> bool:
        """
        Called when the worker says that it has ended to lead.

        :return: whether it has led in that term.
        """
        if self._is_gone:
            return True  # said before it died, and heard after
        if not self._term or term != self._term:
            return False
        self._term = 0
        self._election.ended(self)
        return True

    def die(self) -> None:
        """
        Called when its process is gone.
        """
        self._serves = False
        self._is_gone = True
        self._election.gone(self)

    def _look(self) -> None:
        if self._asks and self._serves:
            self._election.stand(self)
        else:
            self._election.withdraw(self)

    # a primary that replaces itself

    def dump_state(self) -> dict[str, Any]:
        """
        Its part as JSON can carry it.
        """
        return {"asks": self._asks, "serves": self._serves, "term": self._term}

    def restore_state(self, plain: dict[str, Any]) -> None:
        """
        Go on from what :meth:`dump_state` gave.
        """
        self._asks, self._serves, self._term = plain["asks"], plain["serves"], plain["term"]
        if self._term:
            self._election.resume(self)
        self._look()
