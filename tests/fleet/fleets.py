"""
Fleets for tests, with all that a fleet is made of.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from stickyd.affinity.resolve import Resolver
from stickyd.affinity.spec import parse_affinity
from stickyd.fleet.fleet import Fleet
from stickyd.fleet.process.launcher import Launcher
from stickyd.fleet.process.output_share import OutputShare
from stickyd.fleet.process.spec import WorkerSpec
from stickyd.fleet.slot import QueueLimits
from stickyd.fleet.slot_table import SlotTable
from stickyd.placement.failover import Failover
from stickyd.testing import FakePlacement, FakeRefusal, FakeSteering

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IReactorTime

    from stickyd.affinity.token import Signer
    from stickyd.fleet.slot_services import ISteering
    from stickyd.interfaces import IPlacement, IRefusal
    from stickyd.settings import Settings


def make_fleet(
    clock: IReactorTime,
    make_placement: Callable[[int], IPlacement] = FakePlacement,
    queue: QueueLimits | None = None,
    refusal: IRefusal | None = None,
    steering: ISteering | None = None,
    entries: str = "ip",
    signer: Signer | None = None,
    table: SlotTable | None = None,
    place: Callable[[int, Sequence[int]], IPlacement] | None = None,
) -> Fleet:
    """
    Make a fleet that is not started yet.

    :param make_placement: makes the placement over a number of slots all of which are available.
    :param entries: of ``--affinity``.
    :param place: makes the placement over the available ones, instead.
    """
    table = table or SlotTable(clock)
    return Fleet(
        clock,
        table,
        place or partial(Failover, make_placement),
        queue or QueueLimits(100, 1000.0),
        refusal or FakeRefusal(),
        Resolver(
            parse_affinity(entries), signer, table.is_available, owner_of=table.newcomers.known
        ),
        steering or FakeSteering(),
    )


def make_launcher(primary: Any, settings: Settings) -> Launcher:
    """
    Make what starts workers anew.

    :param primary: a reactor of a test's, with its ``readiness``.
    """
    spec = WorkerSpec(["worker"], settings)
    return Launcher(primary, primary.readiness, spec, OutputShare(), forks=False)
