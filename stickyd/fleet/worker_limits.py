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

    :ivar crashes: deaths in a row before ready at which a slot is reported as failed.
    :ivar drain_seconds: what a relieved worker may take for what it cannot hand over.
    :ivar leaving: how many relieved workers of one slot may be at that.
    """

    crashes: int
    drain_seconds: float
    leaving: int

    @classmethod
    def of(cls, settings: Settings) -> WorkerLimits:
        """
        Those of the settings.
        """
        return cls(settings.crash_limit, settings.drain_timeout, settings.max_leaving)

    def follow(self, settings: Settings) -> None:
        """
        Be those of other settings.
        """
        self.crashes = settings.crash_limit
        self.drain_seconds = settings.drain_timeout
        self.leaving = settings.max_leaving
