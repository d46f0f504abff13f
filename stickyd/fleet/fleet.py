"""
All slots together: a connection goes in, the slot that owns its key gets it.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import fail
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.errors import WorkerError
from stickyd.fleet.interfaces import IFleet
from stickyd.fleet.member import Member
from stickyd.fleet.placing import ClaimLimits, place_by_request
from stickyd.fleet.shutdown import Shutdown
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.handoff.frame import BY_KEY, Flag, Handoff
from stickyd.placement.failover import Failover
from stickyd.placement.least import LeastLoaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from stickyd.affinity.resolve import Resolver
    from stickyd.fleet.slot_services import ISteering
    from stickyd.fleet.slot_workers import SlotWorkers
    from stickyd.interfaces import IPlacement, IRefusal


@implementer(IFleet)
class Fleet:
    """
    The slots, their workers, and the placement that chooses between them.

    :ivar members: the slots, by index.
    :ivar place: makes the placement over a number of slots of which some stand.
    :ivar placement: the one by which clients are placed now; None if no slot stands.
    :ivar steering: told where clients are placed, if the kernel places them too.
    :ivar newcomers: chooses the slots of newcomers, and remembers who has claimed an id.
    :ivar leaving: those that a resize took away and whose workers have not ended.
    :ivar running: whether it was started and not told to stop.
    :ivar has_served: whether any worker has ever become ready.
    :ivar resolver: places connections by a request that a worker has read; set by whoever
        knows ``--affinity``.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        make_placement: Callable[[int], IPlacement],
        queue: QueueLimits,
        refusal: IRefusal,
        claims: ClaimLimits = ClaimLimits(),  # noqa: B008 (immutable)
        hopeless: Callable[[], object] = lambda: None,
    ) -> None:
        """
        :param make_placement: makes the placement over a number of slots.
        :param hopeless: told when every slot has failed before any worker became ready.
        """
        self._hopeless = hopeless
        self.has_served = False
        self.newcomers = LeastLoaded(
            1, self.loads, clock.seconds, self.stands, claims.most, claims.seconds
        )
        self.resolver: Resolver | None = None
        self.running = False
        self.clock = clock
        self.place: Callable[[int, Sequence[int]], IPlacement] = partial(Failover, make_placement)
        self.steering: ISteering | None = None
        self._queue = queue
        self._refusal = refusal
        self._make_life: Callable[[Slot], SlotWorkers] | None = None
        self.members: list[Member] = []
        #: How many of them the placement knows: a new one starts before it gets clients.
        self.placed = 0
        self.placement: IPlacement | None = None
        self._slot_of: Callable[[bytes], int] | None = None
        self._held: deque[Handoff] | None = deque()
        self._closing: Shutdown | None = None
        self.leaving: list[Member] = []
        #: Called when a slot that had failed stands again, to have its clients come back.
        self.recovered: Callable[[], None] = self.place_again

    @property
    def slots(self) -> list[Slot]:
        """
        The slots, by index.
        """
        return [member.slot for member in self.members]

    def start(self, count: int, make_life: Callable[[Slot], SlotWorkers]) -> None:
        """
        Have a worker in each of so many slots, from now until :meth:`stop`.

        :param count: at least 1.
        :param make_life: equips a slot.
        """
        self._make_life = make_life
        self.running = True
        self.members, self.leaving = [], []
        for _ in range(count):
            self.add()
        self.place_again(count)
        for member in self.members:
            member.lifecycle.start()

    def add(self) -> Member:
        """
        Add a slot at the tail.  It gets no clients before :meth:`place_again`.
        """
        assert self._make_life is not None
        slot = self._make_slot(len(self.members))
        member = Member(slot, self._make_life(slot))
        self.members.append(member)
        return member

    def _make_slot(self, index: int) -> Slot:
        return Slot(index, self.clock, self._queue, self._refusal, self._occupied, self._free)

    def _occupied(self, slot: Slot) -> None:
        self.has_served = True
        if self.steering is not None:
            self.steering.occupied(slot)

    def remove(self, patience: float) -> None:
        """
        Take the slot at the tail, which the placement does not know any more, away; what
        waits there goes where it belongs now.
        """
        member = self.members.pop()
        self.leaving.append(member)
        for handoff in member.slot.release():
            handoff.slot = BY_KEY
            self.deliver(handoff)
        member.lifecycle.stop(patience)

    # connections

    def deliver(self, handoff: Handoff) -> None:
        """
        Give a connection to the slot that owns it; see :class:`IDestination`.
        """
        index = handoff.slot
        if index == BY_KEY:
            if self._held is not None:
                self._hold(handoff)
                return
            if self._slot_of is None:
                self._refusal.refuse(handoff, "every slot has failed")
                return
            if handoff.key:
                index = self._slot_of(handoff.key)
            else:
                # The worker is told, since nothing else says that the client belongs there.
                index = handoff.slot = self.newcomers.least_loaded()
        elif not self.stands(index):
            handoff.slot = BY_KEY
            self.deliver(handoff)
            return
        member = self.members[index]
        if member.ended:
            self._refusal.refuse(handoff, "the server stops")
        else:
            member.slot.deliver(handoff)

    def resolve(self, handoff: Handoff) -> None:
        """
        Place a connection by the request that a worker has read from it and could not
        place; see :meth:`stickyd.fleet.interfaces.IFleet.resolve`.
        """
        assert self.resolver is not None
        place_by_request(handoff, self.resolver)
        self.deliver(handoff)

    def claim(self, index: int, identifiers: Sequence[bytes]) -> None:
        """
        Remember who owns ids; see :meth:`stickyd.fleet.interfaces.IFleet.claim`.
        """
        for identifier in identifiers:
            self.newcomers.remember(identifier, index)

    def stands(self, index: int) -> bool:
        """
        Whether there is such a slot, and clients may be placed on it.
        """
        if not 0 <= index < self.placed:
            return False
        slot = self.members[index].slot
        return not (slot.failed or slot.drained)  # not slot.stands: connections wait for this

    def loads(self) -> list[int]:
        """
        The load of each slot.
        """
        return [member.slot.load for member in self.members]

    def _hold(self, handoff: Handoff) -> None:
        assert self._held is not None
        full = len(self._held) >= self._queue.length and not handoff.flags & Flag.SERVED
        if full or self._free() <= 0:
            self._refusal.refuse(handoff, "too many connections wait for a resize")
        else:
            self._held.append(handoff)

    @property
    def pressed(self) -> bool:
        """
        Whether so many connections wait for a new placement that workers should give none
        back for a moment.
        """
        held = len(self._held or ())
        return held > 0 and (held >= self._queue.length / 2 or held >= self._free() / 2)

    def _free(self) -> int:
        """
        How many more connections may wait.
        """
        queued = sum(len(member.slot.queue) for member in (*self.members, *self.leaving))
        return self._queue.together() - queued - len(self._held or ())

    def hold(self) -> None:
        """
        Let connections wait that would have to be placed, until :meth:`place_again`.
        """
        if self._held is None:
            self._held = deque()

    def hold_first(self, handoffs: Sequence[Handoff]) -> None:
        """
        Let connections wait, oldest first, before those that are held already.  Those that
        belong to a slot by name keep it, as the next request is of a session there.
        """
        assert self._held is not None
        self._held.extendleft(reversed(handoffs))

    def standing(self) -> list[int]:
        """
        The slots that clients may be placed on.
        """
        return [m.slot.index for m in self.members[: self.placed] if m.slot.stands]

    def places(self) -> tuple[int, list[int]]:
        """
        How clients are placed; see :class:`stickyd.fleet.interfaces.IFleet`.
        """
        return self.placed, self.standing()

    def place_again(self, placed: int | None = None) -> None:
        """
        Place by the slots that stand now, beginning with those who waited for it.

        :param placed: how many slots there are from now on.
        """
        if placed is not None:
            self.placed = placed
            self.newcomers.resize(placed)
        standing = self.standing()
        if standing:
            self.placement = self.place(self.placed, standing)
            self._slot_of = self.placement.slot_of
        else:
            self.placement = self._slot_of = None
            self._log.critical("Every slot has failed or is drained: no connection can be served")
        for member in self.members:
            life = member.life
            for worker in (life.worker, life.successor, *life.leaving):
                if worker is not None:
                    worker.tell_places(self.placed, standing)
        if self.steering is not None:
            self.steering.placed(self.slots[: self.placed], standing)
        held, self._held = self._held, None
        for handoff in held or ():
            self.deliver(handoff)

    def verify_also(self, secrets: Sequence[bytes]) -> list[Deferred[None]]:
        """
        Have every worker take tokens for good that are signed with these secrets.

        :return: each fires when its worker does.
        """
        lives = [member.life for member in (*self.members, *self.leaving)]
        return [
            worker.verify_also(secrets)
            for life in lives
            for worker in (life.worker, life.successor, *life.leaving)
            if worker is not None
        ]

    def standing_changed(self, slot: Slot) -> None:
        """
        Called by a slot that has failed, or stands again.
        """
        if slot.stands and self._slot_of is not None:
            self.recovered()
            return
        if self._held is None:
            self.place_again()
        if not slot.stands:
            self.give_up_waiting(slot)
        if not self.has_served and all(member.slot.failed for member in self.members):
            self._hopeless()

    @property
    def last_deaths(self) -> list[str]:
        """
        How the last worker of each slot died that was not told to end.
        """
        return [
            f"The last one (slot {member.slot.index}) {death}"
            for member in self.members
            if (death := member.life.last_death())
        ]

    def adopt_sessions(self, index: int, chunk: bytes) -> Deferred[None]:
        """
        Give sessions to the worker that has, or is about to take, a slot.

        :return: as :meth:`stickyd.fleet.interfaces.IWorker.adopt_sessions`; fails at once if
            there is no such worker.
        """
        slot = self.members[index].slot if 0 <= index < len(self.members) else None
        keeper = slot and (slot.successor or slot.courier)
        if not keeper:
            return fail(WorkerError(f"slot {index} has no worker to keep sessions"))
        return keeper.adopt_sessions(chunk)

    def give_up_waiting(self, slot: Slot) -> None:
        """
        Place anew whoever waits at a slot that does not stand any more.
        """
        for handoff in slot.release():
            handoff.slot = BY_KEY
            self.deliver(handoff)

    # a primary that replaces itself

    @property
    def unsettled(self) -> list[str]:
        """
        The workers that are not at a moment at which their state can be written down, by
        name; empty if the fleet's can.
        """
        found = [
            f"worker {worker.pid} (slot {member.slot.index})"
            for member in (*self.members, *self.leaving)
            for worker in member.life.all_ready()
            if not worker.quiet
        ]
        if self._held is not None:
            found.append("the fleet, which is being changed")
        return found

    def dump_state(self) -> dict[str, Any]:
        """
        The slots as JSON can carry them, with their workers.  A worker that is not ready
        is left to itself: it ends when it finds no primary, or is reaped.
        """
        return {
            "slots": [member.dump_state() for member in self.members[: self.placed]],
            "leaving": [member.dump_leaving() for member in self.leaving],
            "claims": self.newcomers.snapshot(),
        }

    def resume(self, plain: dict[str, Any], make_life: Callable[[Slot], SlotWorkers]) -> None:
        """
        Go on with the slots of a former self; instead of :meth:`start`.

        :param plain: what its :meth:`dump_state` gave.
        """
        self._make_life = make_life
        self.running = True
        self.members, self.leaving = [], []
        for each in plain["slots"]:
            member = self.add()
            member.slot.drained = each["drained"]
            member.slot.restore_queue(each["queue"])
        self.placed = len(self.members)
        for member, each in zip(self.members, plain["slots"], strict=True):
            member.resume(each)
        for each in plain["leaving"]:
            slot = self._make_slot(each["index"])
            member = Member(slot, make_life(slot))
            self.leaving.append(member)
            member.resume_leaving(each)
        self.newcomers.resize(self.placed)
        self.newcomers.restore(plain.get("claims", ()))
        self.place_again()

    # the end

    def stop(self, patience: float) -> Deferred[None]:
        """
        Let the workers finish what was accepted, then end them.

        :param patience: seconds until what is still under way is cut off.
        :return: fires when no worker is left; never fails.
        """
        self.running = False
        if self._closing is None or self._closing.over:
            self._closing = Shutdown(
                self.clock, self._refusal, lambda: self.members, lambda: self.leaving
            )
            return self._closing.begin(patience)
        return self._closing.again()

    def ended(self, slot: Slot) -> None:
        """
        Called by a slot that has become empty.
        """
        closing = self._closing
        if closing is None or closing.over:
            self.give_up_waiting(slot)
        else:
            closing.refuse_all(slot)
        # By identity: a slot that a resize took away may end when another has its number.
        for member in (*self.members, *self.leaving):
            if member.slot is slot:
                member.ended = True
        self.leaving = [member for member in self.leaving if not member.ended]
        if closing is not None:
            closing.look()
