"""
One worker that keeps clients; see :mod:`stickyd.fleet.keepers`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from stickyd.fleet.interfaces import IWorker
    from stickyd.fleet.slot import Slot


class Keeper:
    """
    A worker that keeps its clients.

    :ivar home: its slot and generation.
    :ivar worker: the worker.
    :ivar queue: what its clients' connections are given.
    :ivar since: when it was relieved, in the reactor's seconds; None if it has its slot.
    :ivar until: when it ends at the latest.
    :ivar count: how many of its clients are remembered by a key or an id.
    :ivar is_retiring: whether it is about to give away what it has.
    :ivar has_moved: whether clients of its slot may be placed elsewhere by now.
    :ivar stays: whether it is one although it has its slot and none of these: newcomers do not
        get there.
    """

    def __init__(self, home: tuple[int, int], worker: IWorker, queue: Slot) -> None:
        self.home = home
        self.worker = worker
        self.queue = queue
        self.count = 0
        self.stays = self.is_retiring = self.has_moved = False
        self.since: float | None = None
        self.until = inf
        self.overdue: IDelayedCall | None = None

    def stay(self) -> None:
        """
        Be a keeper whoever is remembered.
        """
        self.stays = True

    def note_move(self) -> None:
        """
        Take note of another placement.
        """
        self.has_moved = True

    def add(self, number: int) -> None:
        """
        Count clients that are remembered from now on, or no longer.
        """
        self.count += number

    def end_never(self) -> None:
        """
        Be a keeper for as long as somebody is remembered.
        """
        self.cancel()
        self.until, self.stays, self.is_retiring = inf, False, False

    def retire(self) -> None:
        """
        Be about to give away what it has: at its turn, if something else is being changed.
        """
        self.cancel()
        self.is_retiring = True

    def begin_queue(self, queue: Slot, since: float | None) -> None:
        """
        Be relieved, or have the slot again.

        :param queue: what its clients' connections are given from now on.
        :param since: when it was relieved; None if it has its slot.
        """
        self.queue, self.since = queue, since

    def end_at(self, until: float, overdue: IDelayedCall) -> None:
        """
        End then.

        :param overdue: what ends it.
        """
        self.cancel()
        self.until, self.overdue = until, overdue

    def cancel(self) -> None:
        """
        Have nothing end it.
        """
        if self.overdue is not None and self.overdue.active():
            self.overdue.cancel()

    @property
    def is_relieved(self) -> bool:
        """
        Whether another worker has its slot.
        """
        return self.since is not None
