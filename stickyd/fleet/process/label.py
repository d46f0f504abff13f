"""
What a worker is called in the log.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class WorkerLabel:
    """
    The name of one worker, which its parts are told; it changes when a spare takes a slot.

    :ivar pid: its process id; 0 before it has one.
    :ivar place: where it stands: ``spare``, ``slot 3``.
    """

    place: str
    pid: int = 0

    def __str__(self) -> str:
        return f"{self.pid} ({self.place})"
