"""
What the process of a worker is started with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorProcess, IReactorSocket, IReactorTime

if TYPE_CHECKING:
    from stickyd.settings import Settings


class IWorkerReactor(IReactorProcess, IReactorTime, IReactorSocket):
    """
    What spawning needs of a reactor.
    """


@dataclass(frozen=True)
class WorkerSpec:
    """
    What every worker is started with until the next reload.

    :ivar command: the command line.
    :ivar settings: what the worker is told.
    :ivar uid: the user to run as, or :obj:`None` for ours.
    :ivar gid: the same for the group.
    :ivar secrets: what signs (the first) and verifies tokens, and keys are derived from.
    :ivar session_keys: what encrypts (the first) and decrypts sessions; none if they are not.
    :ivar run: names the run of the primary in tokens.
    """

    command: list[str]
    settings: Settings
    uid: int | None = None
    gid: int | None = None
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    session_keys: tuple[bytes, ...] = field(default=(), repr=False)
    run: str = "00000000"
