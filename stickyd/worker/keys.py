"""
The secrets that a worker is told, and what its tokens name beside its slot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: The run of a primary that names none.
NO_RUN = "00000000"


@dataclass(frozen=True)
class WorkerKeys:
    """
    Seen nowhere but in the processes that use them.

    :ivar tokens: what signs (the first) and verifies tokens; none if there are none.
    :ivar sessions: what encrypts (the first) and decrypts sessions; none if they are not.
    :ivar generation: the worker's; 0 for a spare.
    :ivar run: names the primary's run in tokens.
    """

    tokens: tuple[bytes, ...] = field(default=(), repr=False)
    sessions: tuple[bytes, ...] = field(default=(), repr=False)
    generation: int = 0
    run: str = NO_RUN
