"""
How long and how many: what every slot allows its workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stickyd.settings import Settings


@dataclass
class WorkerLimits:
    """
    The limits of the workers of all slots; a reload changes them.

    :ivar crashes: how many workers in a row may die before they are ready until the slot is
        reported as failed.
    :ivar drain_seconds: how long a relieved worker may take to finish what it cannot hand over.
    :ivar leaving: how many relieved workers of one slot may do so at a time.
    :ivar stop_seconds: how long one may take for requests under way that has kept its clients
        for all that time.
    :ivar leaving_bytes: how many bytes all that keep their clients may have resident; 0 for no
        limit.
    :ivar by_client: whether a relieved worker keeps the clients that it knows.
    """

    crashes: int
    drain_seconds: float
    leaving: int
    stop_seconds: float = 30.0
    by_client: bool = False
    leaving_bytes: int = 0

    @classmethod
    def of(cls, settings: Settings) -> WorkerLimits:
        """
        Those of the settings.
        """
        return cls(
            settings.crash_limit,
            settings.drain_timeout,
            settings.max_leaving,
            settings.stop_timeout,
            settings.reload_mode == "client",
            settings.max_leaving_memory * 2**20,
        )

    def follow(self, settings: Settings) -> None:
        """
        Be those of other settings.
        """
        self.crashes = settings.crash_limit
        self.drain_seconds = settings.drain_timeout
        self.leaving = settings.max_leaving
        self.stop_seconds = settings.stop_timeout
        self.by_client = settings.reload_mode == "client"
        self.leaving_bytes = settings.max_leaving_memory * 2**20
