"""
All slots together: a connection goes in, the slot that owns its key gets it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import fail
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.errors import WorkerError
from stickyd.fleet.election import Election
from stickyd.fleet.interfaces import IFleet
from stickyd.fleet.member import Member
from stickyd.fleet.placing import place_by_request
from stickyd.fleet.shutdown import Shutdown
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.handoff.frame import BY_KEY, Flag, Handoff

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from stickyd.affinity.resolve import Resolver
    from stickyd.fleet.keeper import Keeper
    from stickyd.fleet.slot_services import ISteering
    from stickyd.fleet.slot_table import SlotTable
    from stickyd.fleet.slot_workers import SlotWorkers
    from stickyd.interfaces import IPlacement, IRefusal


@implementer(IFleet)
class Fleet:
    """
    The slots, their workers, and the placement that chooses between them.

    :ivar clock: the reactor's.
    :ivar table: the slots.
    :ivar steering: told where clients are placed, as the kernel may place them too.
    :ivar placement: the one by which clients are placed now; None if no slot is available.
    :ivar election: decides which worker leads.
    :ivar running: whether it was started and not told to stop.
    :ivar has_served: whether any worker has ever become ready.
    :ivar undelivered: how often sessions could not be given to the worker of a slot.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        table: SlotTable,
        place: Callable[[int, Sequence[int]], IPlacement],
        queue: QueueLimits,
        refusal: IRefusal,
        resolver: Resolver,
        steering: ISteering,
        hopeless: Callable[[], object] = lambda: None,
    ) -> None:
        """
        :param place: makes the placement over a number of slots of which some are available.
        :param resolver: places connections by a request that a worker has read.
        :param hopeless: told when every slot has failed before any worker became ready.
        """
        self.clock = clock
        self.table = table
        self._keepers = table.keepers
        self._kept = table.keepers.homes
        self.steering = steering
        self.placement: IPlacement | None = None
        self.running = False
        self.has_served = False
        self.undelivered = 0
        self._place = place
        self._queue = queue
        self._refusal = refusal
        self._resolver = resolver
        self._hopeless = hopeless
        self._make_workers: Callable[[Slot], SlotWorkers] | None = None
        self._slot_of: Callable[[bytes], int] | None = None
        self.election = Election(clock)
        self.app_figures = table.figures.application
        self._held: deque[Handoff] | None = deque()
        self._closing: Shutdown | None = None

    @property
    def slots(self) -> list[Slot]:
        """
        The slots, by index.
        """
        return [member.slot for member in self.table.members]

    def start(self, count: int, make_workers: Callable[[Slot], SlotWorkers]) -> None:
        """
        Have a worker in each of so many slots, from now until :meth:`stop`.

        :param count: at least 1.
        :param make_workers: makes the workers of a slot.
        """
        self._make_workers = make_workers
        self.running = True
        self.table.clear()
        for _ in range(count):
            self.add()
        self.place_again(count)
        for member in self.table.members:
            member.machine.start()

    def add(self) -> Member:
        """
        Add a slot at the tail.  It gets no clients before :meth:`place_again`.
        """
        assert self._make_workers is not None
        slot = self._make_slot(len(self.table.members))
        slot.renew(self.table.generation)
        member = Member(slot, self._make_workers(slot))
        self.table.members.append(member)
        return member

    def _make_slot(self, index: int) -> Slot:
        figures = self.table.figures.slot(index)
        return Slot(
            index, self.clock, self._queue, self._refusal, self._occupied, self._free, figures
        )

    def _occupied(self, slot: Slot) -> None:
        self.has_served = True
        self.steering.occupied(slot)

    def remove(self, patience: float) -> None:
        """
        Take the slot at the tail away, which the placement does not know any more; what
        waits there goes where it belongs now.
        """
        member = self.table.members.pop()
        self.table.leaving.append(member)
        self.give_up_waiting(member.slot)
        member.machine.stop(patience)

    # connections

    def deliver(self, handoff: Handoff) -> None:
        """
        Give a connection to the slot that owns it; see :class:`IDestination`.
        """
        index = handoff.slot
        if self._kept and (keeper := self._keepers.find(handoff)) is not None:
            keeper.queue.deliver(handoff)
            return
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
                index = handoff.slot = self.table.newcomers.least_loaded()
        elif not self.table.is_available(index):
            handoff.slot = BY_KEY
            self.deliver(handoff)
            return
        member = self.table.members[index]
        if member.ended:
            self._refusal.refuse(handoff, "the server stops")
        else:
            member.slot.deliver(handoff)

    def resolve(self, handoff: Handoff) -> None:
        """
        Place a connection by the request that a worker has read from it and could not
        place; see :meth:`stickyd.fleet.interfaces.IFleet.resolve`.
        """
        place_by_request(handoff, self._resolver)
        self.deliver(handoff)

    def claim(self, index: int, identifiers: Sequence[bytes], generation: int = 0) -> None:
        """
        Remember who owns ids; see :meth:`stickyd.fleet.interfaces.IFleet.claim`.
        """
        keeper = self._kept.get((index, generation))
        if keeper is not None and (keeper.is_relieved or keeper.stays):
            # Also between its word whom it keeps and the switch-over.
            self._keepers.learn(keeper.home, (), identifiers)
            if keeper.is_relieved:
                return
        for identifier in identifiers:
            self.table.newcomers.remember(identifier, index)

    def learn(
        self, home: tuple[int, int], keys: Sequence[bytes], ids: Sequence[bytes], gone: bool
    ) -> None:
        """
        Note whom a worker keeps; see :meth:`stickyd.fleet.interfaces.IFleet.learn`.
        """
        (self._keepers.forget if gone else self._keepers.learn)(home, keys, ids)

    def finished(self, home: tuple[int, int]) -> None:
        """
        Have a keeper end that keeps nobody; see
        :meth:`stickyd.fleet.interfaces.IFleet.finished`.
        """
        keeper = self._kept.get(home)
        if keeper is not None and keeper.is_relieved:
            self._keepers.retire(keeper)

    def kept(self) -> tuple[list[tuple[int, int]], bool]:
        """
        Who keeps clients; see :meth:`stickyd.fleet.interfaces.IFleet.kept`.
        """
        return self._keepers.for_workers

    def tell_kept(self) -> None:
        """
        Have every worker know who keeps clients.
        """
        if self.running and self._held is None:  # else they are told when that is over
            for worker in self.table.workers():
                worker.tell_places(*self.places())

    def keep_clients(self, retire: Callable[[Keeper], object]) -> None:
        """
        Have relieved workers keep the clients that they know.

        :param retire: has one of them give away what it has, and end.
        """
        self._keepers.open(self._make_queue, self.deliver, self.tell_kept, retire)

    def _make_queue(self, index: int) -> Slot:
        return Slot(index, self.clock, self._queue, self._refusal, free=self._free)

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
        return self._queue.together() - self.table.queued() - len(self._held or ())

    def hold(self) -> None:
        """
        Let connections wait instead of placing them, until :meth:`place_again`.
        """
        if self._held is None:
            self._held = deque()

    def hold_first(self, handoffs: Sequence[Handoff]) -> None:
        """
        Let connections wait in front of those that are held already.  One that belongs to a
        slot by name keeps it, as its next request is of a session there.

        :param handoffs: oldest first.
        """
        assert self._held is not None
        self._held.extendleft(reversed(handoffs))

    def places(self) -> tuple[int, list[int]]:
        """
        How clients are placed; see :class:`stickyd.fleet.interfaces.IFleet`.
        """
        return self.table.placed, self.table.available_slots()

    def place_again(self, placed: int | None = None) -> None:
        """
        Place by the slots that are available now, beginning with the connections that wait.

        :param placed: how many slots there are from now on.
        """
        table = self.table
        if placed is not None:
            table.place_on(placed)
        available = table.available_slots()
        if available:
            self.placement = self._place(table.placed, available)
            self._slot_of = self.placement.slot_of
            table.keepers.note_move()
        else:
            self.placement = self._slot_of = None
            self._log.critical(
                "Every slot has failed or is drained: no connection can be served",
                event="fleet.no-slot",
            )
        for member in table.members:
            for worker in member.all_workers():
                worker.tell_places(table.placed, available)
        self.steering.placed(self.slots[: table.placed], available)
        held, self._held = self._held, None
        for handoff in held or ():
            self.deliver(handoff)

    def verify_also(self, secrets: Sequence[bytes]) -> list[Deferred[None]]:
        """
        Have every worker accept tokens that are signed with these secrets too.

        :return: each fires when its worker does.
        """
        return [worker.verify_also(secrets) for worker in self.table.workers()]

    def availability_changed(self, slot: Slot) -> None:
        """
        Called by a slot that has failed, or is available again.
        """
        if self._held is None:
            self.place_again()
        if not slot.available:
            self.give_up_waiting(slot)
        if not self.has_served and all(slot.failed for slot in self.slots):
            self._hopeless()

    def adopt_sessions(self, index: int, chunk: bytes) -> Deferred[None]:
        """
        Give sessions to the worker that has, or is about to take, a slot.

        :return: as :meth:`stickyd.fleet.interfaces.IWorker.adopt_sessions`; fails at once if
            there is no such worker.
        """
        slots = self.slots
        slot = slots[index] if 0 <= index < len(slots) else None
        keeper = slot and (slot.successor or slot.worker)
        if not keeper:
            self.undelivered += 1
            return fail(WorkerError(f"slot {index} has no worker to keep sessions"))
        return keeper.adopt_sessions(chunk).addErrback(self._undelivered)

    def _undelivered(self, failure: Failure) -> Failure:
        self.undelivered += 1
        return failure

    def give_up_waiting(self, slot: Slot) -> None:
        """
        Place anew what waits at a slot that is not available any more.
        """
        for handoff in slot.release():
            if self._keepers.find(handoff) is None:
                handoff.slot = BY_KEY
            self.deliver(handoff)

    # a primary that replaces itself

    @property
    def unsettled(self) -> list[str]:
        """
        The workers that are not at a moment at which their state can be written down, by
        name; empty if the fleet's can.
        """
        found = self.table.unsettled
        if self._held is not None:
            found.append("the fleet, which is being changed")
        return found

    def dump_state(self) -> dict[str, Any]:
        """
        The slots as JSON can carry them, with their workers.  A worker that is not ready
        is left out: it ends when it finds no primary, or is reaped.
        """
        table = self.table
        return {
            "slots": [member.dump_state() for member in table.members[: table.placed]],
            "leaving": [member.dump_leaving() for member in table.leaving],
            "claims": table.newcomers.snapshot(),
            "election": self.election.dump_state(),
            "figures": table.figures.dump_state(),
            "generation": table.generation,
            "keepers": table.keepers.dump_state(),
        }

    def restore_state(
        self, plain: dict[str, Any], make_workers: Callable[[Slot], SlotWorkers]
    ) -> None:
        """
        Go on with the slots that this primary had before it replaced its code; instead of
        :meth:`start`.

        :param plain: what its :meth:`dump_state` gave.
        """
        self._make_workers = make_workers
        self.running = True
        self.election.restore_state(plain.get("election", {}))
        self.table.clear()
        if "figures" in plain:
            self.table.figures.restore_state(plain["figures"])
        for each in plain["slots"]:
            member = self.add()
            member.slot.renew(each.get("generation", 1))
            if each["drained"]:
                member.slot.drain()
            member.slot.restore_queue(each["queue"])
        table = self.table
        table.placed = len(table.members)
        for member, each in zip(table.members, plain["slots"], strict=True):
            member.restore_state(each)
        for each in plain["leaving"]:
            slot = self._make_slot(each["index"])
            member = Member(slot, make_workers(slot))
            table.leaving.append(member)
            member.restore_leaving(each)
        table.place_on(table.placed)
        table.newcomers.restore(plain.get("claims", ()))
        table.start_from(plain.get("generation", 1))
        slots = {
            worker.pid: member.slot
            for member in table.all_members()
            for worker in member.all_workers()
        }
        workers = {worker.pid: (worker, slots[worker.pid]) for worker in table.workers()}
        table.keepers.restore_state(plain.get("keepers", ()), workers)
        self.place_again()
        self.election.open()

    # the end

    def stop(self, patience: float) -> Deferred[None]:
        """
        Let the workers finish what was accepted, then end them.

        :param patience: seconds until what is still under way is cut off.
        :return: fires when no worker is left; never fails.
        """
        self.running = False
        for keeper in self._keepers:
            self._keepers.end(keeper.worker)
        if self._closing is None or self._closing.over:
            self._closing = Shutdown(self.clock, self._refusal, self.table)
            return self._closing.begin(patience)
        return self._closing.again()

    def stop_at_once(self) -> None:
        """
        Wait no longer for what is under way, once :meth:`stop` was called.
        """
        if self._closing is not None and not self._closing.over:
            self._closing.cut_off()

    def ended(self, slot: Slot) -> None:
        """
        Called by a slot that has become empty.
        """
        closing = self._closing
        if closing is None or closing.over:
            self.give_up_waiting(slot)
        else:
            closing.refuse_all(slot)
        self.table.end(slot)
        if closing is not None:
            closing.look()
