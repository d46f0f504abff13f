"""
What a primary can say of its slots without changing anything: for ``explain``.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from stickyd.explain import Occupant
from stickyd.placement.failover import Failover
from stickyd.placement.least import LeastLoaded

if TYPE_CHECKING:
    from stickyd.affinity.resolve import Verdict
    from stickyd.fleet.fleet import Fleet
    from stickyd.fleet.member import Member

#: From here on times are said in minutes.
_MINUTES_SECONDS = 120

_NOBODY = "every slot has failed or is drained, so the client is refused"


class FleetView:
    """
    Implements :class:`stickyd.explain.Running` for a fleet.
    """

    runs = True

    def __init__(self, fleet: Fleet, placement: str) -> None:
        """
        :param placement: the setting, for the wording.
        """
        self._fleet = fleet
        self._placement = placement
        self.is_available = fleet.table.is_available
        self.owner_of = fleet.table.newcomers.peek
        self.keeping = fleet.table.keepers

    @property
    def slots(self) -> int:
        """
        How many slots clients are placed on.
        """
        return self._fleet.table.placed

    def home_of(self, key: bytes) -> tuple[int | None, str]:
        """
        The slot of a key; see :class:`stickyd.explain.Running`.
        """
        placement = self._fleet.placement
        if placement is None:
            return None, _NOBODY
        if isinstance(placement, LeastLoaded):
            remembered = placement.peek(key)
            if remembered is not None:
                return remembered, f"remembered on slot {remembered}"
            slot = placement.next_slot()
            return slot, f"not remembered, so the least loaded slot, {slot} at the moment"
        assert isinstance(placement, Failover)
        slot, usual = placement.slot_of(key), placement.usual(key)
        how = f"{self._placement} over {self.slots} slots gives {usual}"
        if slot != usual:
            occupant = self.occupant_of(usual)
            how += f", which is not available ({occupant}), so {slot} has its clients"
        return slot, how

    def keeper_of(self, verdict: Verdict) -> tuple[int, Occupant, str] | None:
        """
        Who keeps a client; see :class:`stickyd.explain.Running`.
        """
        keepers = self._fleet.table.keepers
        if verdict.slot is not None:
            keeper = keepers.homes.get((verdict.slot, verdict.generation))
        else:
            keeper = keepers.keeper_of_key(verdict.key or b"")
        if keeper is None:
            return None
        slot, generation = keeper.home
        why = f"known to worker {keeper.worker.pid} of generation {generation}"
        now = self._fleet.clock.seconds()
        if keeper.since is not None:
            why += f", relieved {_duration(now - keeper.since)} ago"
        if keeper.until != inf:
            why += f", stays at most {_duration(keeper.until - now)}"
        return slot, Occupant(keeper.worker.pid, "keeping its clients"), why

    def newcomer_home(self) -> tuple[int | None, str]:
        """
        The slot of a newcomer; see :class:`stickyd.explain.Running`.
        """
        if self._fleet.placement is None:
            return None, _NOBODY
        slot = self._fleet.table.newcomers.next_slot()
        return slot, f"the least loaded slot, {slot} at the moment"

    def occupant_of(self, slot: int) -> Occupant:
        """
        The worker of a slot, and what it is doing.
        """
        return occupant_of(self._fleet.table.members[slot])


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < _MINUTES_SECONDS else f"{seconds / 60:.0f} minutes"


def occupant_of(member: Member) -> Occupant:
    """
    The worker of a slot, and what it is doing.
    """
    slot, workers = member.slot, member.workers
    if slot.failed:
        return Occupant(0, "failed")
    worker = slot.worker or slot.successor or workers.worker
    pid = 0 if worker is None else worker.pid
    if workers.stopping:
        return Occupant(pid, "stopping")
    if slot.drained:
        return Occupant(pid, "draining")
    if worker is not None and worker is slot.worker:
        return Occupant(pid, "serving")
    if worker is not None and worker is slot.successor and worker is workers.worker:
        return Occupant(pid, "serving")  # it gives away what another slot gets from now on
    past = workers.restarts
    first = not (past.ready_at or past.count or past.crashes or slot.successor)
    return Occupant(pid, "starting" if first else "restarting")
