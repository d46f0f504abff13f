"""
What a worker is called in the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stickyd.fleet.slot import Slot


class WorkerLabel:
    """
    The name of one worker, which its parts are told; it changes when a spare takes a slot.

    :ivar pid: its process id; 0 before it has one.
    :ivar place: where it is: ``spare``, ``slot 3``.
    :ivar short: the source of what it says, in the log for people: ``worker 3``.
    """

    def __init__(self, slot: Slot | None, without: str = "spare") -> None:
        """
        :param slot: the one that it occupies.
        :param without: what it is without one.
        """
        self.pid = 0
        self.short = self.place = without
        if slot is not None:
            self.move(slot)

    def begin(self, pid: int) -> None:
        """
        Called when there is a process.
        """
        self.pid = pid

    def move(self, slot: Slot) -> None:
        """
        Called when a spare takes a slot.
        """
        self.short = f"worker {slot.index}"
        self.place = f"slot {slot.index}"

    @property
    def printed(self) -> str:
        """
        The name of the worker before each line that it prints.
        """
        return f"worker {self.pid} {self.place}"

    def __str__(self) -> str:
        return f"{self.pid} ({self.place})"
