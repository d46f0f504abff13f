"""
What a worker tells the primary in the course of its work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from stickyd.worker.known_clients import Tell


@dataclass(frozen=True)
class Reports:
    """
    Each fires when the primary knows.

    :ivar sessions: sends a chunk of sessions to the worker of a slot.
    :ivar claims: says which ids are of our clients.
    :ivar known: says whom we keep.
    """

    sessions: Callable[[int, bytes], Deferred[None]]
    claims: Callable[[list[bytes]], Deferred[object]]
    known: Tell
