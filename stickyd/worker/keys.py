"""
The secrets that a worker is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class WorkerKeys:
    """
    Seen nowhere but in the processes that use them.

    :ivar tokens: what signs (the first) and verifies tokens; none if there are none.
    :ivar sessions: what encrypts (the first) and decrypts sessions; none if they are not.
    """

    tokens: tuple[bytes, ...] = field(default=(), repr=False)
    sessions: tuple[bytes, ...] = field(default=(), repr=False)
