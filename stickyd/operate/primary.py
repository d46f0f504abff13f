"""
The primary as the commands of operators see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from stickyd.explain import Client, Explanation
    from stickyd.fleet.fleet import Fleet
    from stickyd.fleet.health import Health
    from stickyd.fleet.operations import Operations
    from stickyd.log.journal import Journal
    from stickyd.settings import Settings


@dataclass(frozen=True)
class Primary:
    """
    What commands look at, and what they can have done.

    :ivar run: names this run of the program: another one after a start or an upgrade.
    :ivar began_at: when the process began, in the clock's seconds.
    :ivar listens_on: gives the endpoints.
    :ivar health: whether clients should come, as ``/readyz`` says it.
    :ivar journal: the latest events.
    :ivar explain: says who serves a client; raises :exc:`SettingError`.
    :ivar reread: reads options and configuration file again; raises :exc:`OperatorError`.
    :ivar origins: where each setting that is no default was given, by its name.
    :ivar upgrade: replaces the primary's code; what it returns fires with the reason why not.
    :ivar stop: stops the server.
    """

    clock: IReactorTime
    fleet: Fleet
    operations: Operations
    run: str
    began_at: float
    listens_on: Callable[[], list[str]]
    health: Callable[[], Health]
    journal: Journal
    explain: Callable[[Client], Explanation]
    reread: Callable[[], Settings]
    origins: Callable[[], Mapping[str, str]]
    upgrade: Callable[[], Deferred[str]]
    stop: Callable[[], object]
