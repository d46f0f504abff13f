"""
The primary as the admin endpoint sees it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList

from stickyd.explain import Client
from stickyd.placement.least import LeastLoaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.explain import Explanation
    from stickyd.figures.fleet_figures import FleetFigures
    from stickyd.fleet.fleet import Fleet
    from stickyd.fleet.health import Health
    from stickyd.fleet.operations import Operations
    from stickyd.fleet.report import FleetReport
    from stickyd.messaging.hub import BusFigures
    from stickyd.settings import Settings

TELLING_SECONDS = 1.0
"""
How long a scrape waits for workers.
"""

SAMPLES = 600
"""
Of how many made-up clients it is shown where they belong.
"""


@dataclass(frozen=True)
class AdminView:
    """
    What is shown, and what can be done.

    :ivar figures: what has happened so far.
    :ivar report: how the fleet is now.
    :ivar health: whether clients should come.
    :ivar explain: says who serves a client; raises :exc:`SettingError`.
    :ivar reread: reads options and configuration file again; raises :exc:`OperatorError`.
    :ivar bus: what has been passed on between workers.
    """

    clock: IReactorTime
    fleet: Fleet
    operations: Operations
    figures: FleetFigures
    report: Callable[[], FleetReport]
    health: Callable[[], Health]
    explain: Callable[[Client], Explanation]
    reread: Callable[[], Settings]
    bus: Callable[[], BusFigures]

    def status(self) -> dict[str, Any]:
        """
        All that the dashboard shows, as JSON can carry it.
        """
        report = asdict(self.report())
        health = self.health()
        settings = self.operations.settings
        named = settings.application
        return {
            **report,
            "ready": health.ready,
            "checks": [asdict(check) for check in health.checks],
            "application": "the demonstration" if named is None else f"--{named[0]} {named[1]}",
            "affinity": list(settings.affinity),
            "placement": settings.placement,
            "placed": self.fleet.table.placed,
            "drained": [slot.index for slot in self.fleet.slots if slot.drained],
        }

    def hear_application(self) -> Deferred[None]:
        """
        Have the workers tell what the application counts.

        :return: fires when they have; at the latest after :data:`TELLING_SECONDS`, without those
            that are stuck.
        """
        told = [worker.ask_for_app_figures() for worker in self.fleet.table.workers()]
        heard: Deferred[Any] = DeferredList([each.addErrback(lambda _: None) for each in told])
        waiting: Deferred[None] = Deferred()

        def done(_: object) -> None:
            if not waiting.called:
                waiting.callback(None)

        heard.addCallback(done)
        return waiting.addTimeout(TELLING_SECONDS, self.clock).addErrback(lambda _: None)

    def spread(self) -> list[int]:
        """
        The slots of made-up clients, by IPv4 addresses, as they are placed now; -1 for those that
        have none.  With a placement that remembers its clients, those of the clients
        instead, as far as there are not more.
        """
        placement = self.fleet.placement
        if placement is None:
            return [-1] * SAMPLES
        if isinstance(placement, LeastLoaded):
            return placement.homes(SAMPLES)
        return [placement.slot_of(bytes((10, *divmod(n, 256), 1))) for n in range(SAMPLES)]


def explained(view: AdminView, text: str) -> dict[str, Any]:
    """
    Say who serves a client.

    :param text: see :meth:`stickyd.explain.Client.told_by`.
    :return: as JSON can carry it.
    :raises SettingError: if it is nothing of that.
    """
    found = view.explain(Client.told_by([text]))
    worker = found.worker
    return {
        "entry": found.entry,
        "slot": found.slot,
        "worker": None if worker is None else {"pid": worker.pid, "state": worker.state},
        "reasons": list(found.reasons),
    }
