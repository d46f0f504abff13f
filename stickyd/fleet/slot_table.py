"""
The slots of a fleet as data: which there are, which are available, and which ids they have
claimed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.figures.fleet_figures import FleetFigures
from stickyd.fleet.keepers import MOST_KNOWN, Keepers
from stickyd.fleet.placing import ClaimLimits
from stickyd.placement.least import LeastLoaded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet.interfaces import IReactorTime

    from stickyd.fleet.interfaces import IWorker
    from stickyd.fleet.member import Member
    from stickyd.fleet.slot import Slot


class SlotTable:
    """
    What the placement, the resolver and the fleet all look at.

    :ivar members: the slots with their workers, by index.
    :ivar leaving: those that a resize took away and whose workers have not ended.
    :ivar placed: how many of ``members`` the placement knows: a new one starts before it gets
        clients.
    :ivar figures: what the slots have done, those too that are not there any more.
    :ivar newcomers: chooses the slots of newcomers, and remembers which slot has claimed an id.
    :ivar keepers: the workers that keep clients which newcomers in their place would not reach.
    :ivar generation: the one of the workers that were started last.  It grows with each
        reload, recycling and growth, and never shrinks, so that slot and generation name at
        most one worker that was not relieved.
    """

    def __init__(
        self,
        clock: IReactorTime,
        claims: ClaimLimits = ClaimLimits(),  # noqa: B008 (immutable)
        figures: FleetFigures | None = None,
        most_known: int = MOST_KNOWN,
    ) -> None:
        """
        :param most_known: how many clients without tokens are remembered that workers keep.
        """
        self.figures = FleetFigures() if figures is None else figures
        self.keepers = Keepers(clock, most_known)
        self.generation = 1
        self.members: list[Member] = []
        self.leaving: list[Member] = []
        self.placed = 0
        self.newcomers = LeastLoaded(
            1, self.loads, clock.seconds, self.is_available, claims.most, claims.seconds
        )

    def clear(self) -> None:
        """
        Forget the slots of a former start, all of which have ended.
        """
        self.members, self.leaving = [], []

    def all_members(self) -> Iterator[Member]:
        """
        All slots, those too that a resize took away.
        """
        yield from self.members
        yield from self.leaving

    def workers(self) -> Iterator[IWorker]:
        """
        All workers that have not ended, whatever part they play.
        """
        for member in self.all_members():
            yield from member.all_workers()

    def is_available(self, index: int) -> bool:
        """
        Whether there is such a slot, and clients may be placed on it.
        """
        if not 0 <= index < self.placed:
            return False
        slot = self.members[index].slot
        return not (slot.failed or slot.drained)  # not slot.available: connections wait for this

    def available_slots(self) -> list[int]:
        """
        The slots that clients may be placed on.
        """
        return [m.slot.index for m in self.members[: self.placed] if m.slot.available]

    def place_on(self, placed: int) -> None:
        """
        Place clients on so many slots from now on.
        """
        self.placed = placed
        self.newcomers.resize(placed)

    def loads(self) -> list[int]:
        """
        The load of each slot.
        """
        return [member.slot.load for member in self.members]

    def queued(self) -> int:
        """
        How many connections wait at the slots.
        """
        waiting = sum(len(member.slot.queue) for member in self.all_members())
        return waiting + self.keepers.queued()

    def next_generation(self) -> int:
        """
        Give the generation of the workers that are started from now on.
        """
        self.generation += 1
        return self.generation

    def start_from(self, generation: int) -> None:
        """
        Go on counting generations from that of a former self of this primary.
        """
        self.generation = generation

    def end(self, slot: Slot) -> None:
        """
        Note that a slot has become empty.
        """
        # By identity: a slot that a resize took away may end when another has its number.
        for member in self.all_members():
            if member.slot is slot:
                member.ended = True
        self.leaving = [member for member in self.leaving if not member.ended]

    @property
    def last_deaths(self) -> list[str]:
        """
        How the last worker of each slot died that was not told to end.
        """
        told = []
        for member in self.members:
            if member.workers.last_death is not None:
                worker, cause = member.workers.last_death
                words = worker.last_words and f". Its last words: {worker.last_words}"
                told.append(f"The last one (slot {member.slot.index}) {cause}{words}")
        return told

    @property
    def unsettled(self) -> list[str]:
        """
        The workers that are not at a moment at which their state can be written down, by
        name.
        """
        return [
            f"worker {worker.pid} (slot {member.slot.index})"
            for member in self.all_members()
            for worker in member.workers.all_ready()
            if not worker.quiet
        ]
