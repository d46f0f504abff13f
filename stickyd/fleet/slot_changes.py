"""
Changing the fleet while it serves: reload, resize, drain.

Each is a sequence of steps over slots, and one goes on at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.logger import Logger

from stickyd.fleet.slot_workers import SWITCH_OVER_SECONDS
from stickyd.fleet.steps import Step, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from twisted.python.failure import Failure

    from stickyd.fleet.fleet import Fleet
    from stickyd.fleet.interfaces import IWorker
    from stickyd.fleet.keeper import Keeper
    from stickyd.fleet.member import Member
    from stickyd.fleet.slot import Slot
    from stickyd.fleet.worker_limits import WorkerLimits

T = TypeVar("T")

#: Why nothing is changed any more; it is no error.
STOPS = "the server stops"

#: Seconds that newcomers wait at a start for workers that have to give away sessions first.
START_SECONDS = 60.0

#: Seconds after which a move is ended although a slot has no worker to give away what is in its
#: store.
MOVE_SECONDS = 120.0


class SlotChanges:
    """
    What an operator may do to a fleet that serves.

    :ivar steps: how far it is.
    """

    _log = Logger()

    def __init__(self, fleet: Fleet, limits: WorkerLimits, keeps_in_slots: bool = False) -> None:
        """
        :param limits: what every slot allows its workers.
        :param keeps_in_slots: whether sessions are in a store of each slot's own, that outlives
            its worker.
        """
        self._fleet = fleet
        self._keeps_in_slots = keeps_in_slots
        self._limits = limits
        self.steps = Steps(fleet.clock)
        self._turn = DeferredLock()

    def exclusively(self, act: Callable[[], Deferred[None]]) -> Deferred[None]:
        """
        Act when no change is under way.  None begins until what ``act`` returns has fired.

        :return: fires, or fails, as that does.
        """
        return self._turn.run(act)

    def _in_turn(
        self, what: str, change: Callable[[], Coroutine[Deferred[Any], Any, T]]
    ) -> Deferred[T]:
        # Begun no sooner: a coroutine that is never run is a warning at the exit.
        return self._turn.run(lambda: Deferred.fromCoroutine(self._noted(what, change)))

    async def _noted(self, what: str, change: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> T:
        """
        Make a change, and have it known for as long as it goes on, and how it has ended.
        """
        begun = self.steps.begin(what)
        problems: list[str] = ["it was broken off"]
        try:
            outcome = await change()
            told = outcome if isinstance(outcome, list) else [outcome]
            problems = [str(problem) for problem in told if problem]
        finally:
            self.steps.end(begun, *problems)
        return outcome

    # reload

    def reload(
        self, indices: Sequence[int] | None = None, generation: int | None = None
    ) -> Deferred[list[str]]:
        """
        Replace workers by fresh ones, slot by slot; a successor is ready first.

        :param indices: the slots; all by default.
        :param generation: that of the fresh workers; the next one by default.
        :return: fires with a line for each slot that kept its old worker, saying why.
        """
        return self._in_turn("reload", lambda: self._reload(indices, generation))

    def go_back(self, indices: Sequence[int]) -> Deferred[list[str]]:
        """
        Have the workers that were relieved last have their slots again, with all newcomers; the
        present ones keep the clients that they know.  A slot whose former worker has left gets a
        fresh one.

        :return: as of :meth:`reload`.
        """
        return self._in_turn("go back", lambda: self._go_back(indices))

    async def _go_back(self, indices: Sequence[int]) -> list[str]:
        kept = []
        table = self._fleet.table
        for member in [m for m in table.members if m.slot.index in indices]:
            outcome: Deferred[str] = Deferred()
            if member.workers.former is None:
                member.slot.renew(table.next_generation())
                member.machine.reload(outcome.callback)
            else:
                member.machine.reinstate(outcome.callback)
            reason = await outcome
            if reason:
                kept.append(f"slot {member.slot.index}: {reason}")
        table.keepers.prune()
        return kept

    async def _reload(self, indices: Sequence[int] | None, generation: int | None) -> list[str]:
        kept = []
        members = [
            member
            for member in self._fleet.table.members
            if indices is None or member.slot.index in indices
        ]
        generation = generation or self._fleet.table.next_generation()
        for done, member in enumerate(members, 1):
            index = member.slot.index
            member.slot.renew(generation)
            outcome: Deferred[str] = Deferred()
            member.machine.reload(outcome.callback)
            reason = await outcome
            if reason:
                kept.append(f"slot {index}: {reason}")
            text = f"slot {index}: {reason or 'a fresh worker serves'}"
            self.steps.tell(Step("reload", text, index, done, len(members)))
        return kept

    # the end of a worker that keeps its clients

    def retire(self, keeper: Keeper) -> None:
        """
        Have a keeper give away what it has, as one that keeps nobody does when it is relieved;
        and finish.
        """
        self._in_turn("retire", lambda: self._retire(keeper))

    async def _retire(self, keeper: Keeper) -> None:
        fleet = self._fleet
        table, worker, index = fleet.table, keeper.worker, keeper.home[0]
        if table.keepers.of(worker) is not keeper or not keeper.is_retiring:
            return  # it has died, or has its clients again
        if not keeper.is_relieved and table.is_available(index):
            return  # so it has all newcomers
        heir = table.members[index].slot if index < len(table.members) else None
        stays = heir is not None and heir.available
        # Its sessions go where its clients' next connections go, and must be there before them.
        alone = stays and not keeper.has_moved
        heirs = [m.slot for m in table.members if m.slot is heir or not alone]
        held = [(slot, slot.worker) for slot in heirs if slot.worker is not None]
        for slot, current in held:
            slot.hold(current)
        table.keepers.end(worker)
        release = worker.release(None if stays else (table.placed, table.available_slots()))
        await self._within_reason(release)
        for slot, current in held:
            if slot.successor is current:
                slot.occupy(current)
        if keeper.is_relieved:
            worker.stop(self._limits.stop_seconds)

    # resize

    def resize(self, count: int) -> Deferred[str]:
        """
        Add slots at the tail, or take them away there.

        Only the keys that the placement moves are moved, with their sessions and idle
        connections.

        :param count: how many slots there shall be, at least 1.
        :return: fires with an empty text, or with the reason why it was not done.
        """
        return self._in_turn("resize", lambda: self._resize(count))

    async def _resize(self, count: int) -> str:
        fleet = self._fleet
        if not fleet.running:
            return STOPS
        before = len(fleet.table.members)
        reason = fleet.steering.prepare(count)
        if reason:
            return reason
        if count > before:
            reason = await self._grow(count)
            if reason:
                return reason
        elif count < before:
            stay = [index for index in fleet.table.available_slots() if index < count]
            if not stay:
                return "none of the slots that would stay is available"
            await self._move(count, stay, fleet.table.members)
            while len(fleet.table.members) > count:
                fleet.remove(self._limits.drain_seconds)
        self._log.info(
            "Resized from {before} to {count} slots",
            event="resize.done",
            before=before,
            count=count,
        )
        return ""

    async def _grow(self, count: int) -> str:
        fleet = self._fleet
        old = list(fleet.table.members)
        fleet.table.next_generation()
        added = [fleet.add() for _ in range(count - len(old))]
        ready = [self._ready(member) for member in added]
        for member in added:
            member.machine.start()
        outcomes = []
        for member, waiting in zip(added, ready, strict=True):
            outcomes.append(await waiting)
            index = member.slot.index
            text = "a worker serves" if outcomes[-1] else "no worker got ready"
            step = Step("resize", f"slot {index}: {text}", index, len(outcomes), len(added))
            self.steps.tell(step)
        if not fleet.running:
            return STOPS
        if not all(outcomes):
            while len(fleet.table.members) > len(old):
                fleet.remove(0.0)
            return "a new worker could not start; the number of slots stays"
        available = [*fleet.table.available_slots(), *range(len(old), count)]
        # The store of a new slot may be that of a former one, with sessions of anybody.
        members = fleet.table.members if self._keeps_in_slots else old
        await self._move(count, available, members)
        return ""

    def _ready(self, member: Member) -> Deferred[bool]:
        waiting: Deferred[bool] = Deferred()
        member.workers.call_when_decided(waiting.callback)
        return waiting

    # a start

    def settle(self) -> Deferred[None]:
        """
        Have every worker give away what another one's clients have left with it, before
        anybody is placed: called as the fleet starts.
        """
        return self._in_turn("start", self._settle)

    async def _settle(self) -> None:
        fleet = self._fleet
        members = list(fleet.table.members)
        fleet.hold()
        for member in members:
            member.slot.pause()
        ready: Deferred[Any] = DeferredList([self._ready(member) for member in members])
        await self._within_reason(ready, START_SECONDS)
        await self._move(fleet.table.placed, fleet.table.available_slots(), members)

    # drain

    def drain(self, index: int) -> Deferred[str]:
        """
        Keep clients away from a slot: its sessions and idle connections go to the
        others, as do its clients from now on; requests under way are finished.

        :return: fires with an empty text, or with the reason why it was not done.
        """
        return self._in_turn("drain", lambda: self._drain(index))

    async def _drain(self, index: int) -> str:
        fleet = self._fleet
        if not fleet.running:
            return STOPS
        if not 0 <= index < len(fleet.table.members):
            return f"there is no slot {index}: they are 0 to {len(fleet.table.members) - 1}"
        remaining = [other for other in fleet.table.available_slots() if other != index]
        if not remaining:
            return "it is the last available slot; stop the server instead"
        slot = fleet.table.members[index].slot
        slot.drain()
        if self._limits.by_client and slot.worker is not None and slot.worker.knows_clients:
            fleet.table.keepers.begin(slot, slot.worker).stay()
        # All members: the clients of a slot that was drained before may move once more.
        await self._move(fleet.table.placed, remaining, fleet.table.members)
        fleet.give_up_waiting(slot)
        fleet.table.keepers.end_after(slot.worker, self._limits.drain_seconds)
        return ""

    def undrain(self, index: int) -> Deferred[str]:
        """
        Let clients come back to a drained slot.

        :return: fires with an empty text, or with the reason why it was not done.
        """
        return self._in_turn("undrain", lambda: self._undrain(index))

    async def _undrain(self, index: int) -> str:
        fleet = self._fleet
        if not fleet.running:
            return STOPS
        if not 0 <= index < len(fleet.table.members) or not fleet.table.members[index].slot.drained:
            return f"slot {index} is not drained"
        slot = fleet.table.members[index].slot
        slot.undrain()
        fleet.table.keepers.end_after(slot.worker, None)
        await self._move(fleet.table.placed, fleet.table.available_slots(), fleet.table.members)
        return ""

    def availability_changed(self, slot: Slot) -> None:
        """
        Called by a slot that has failed, or is available again.

        When a slot serves again that had failed, its clients come back with their sessions
        from the slots that had them meanwhile, unless all had failed.
        """
        fleet = self._fleet
        table = fleet.table
        if slot.available and fleet.placement is not None:
            self._in_turn(
                "return",
                lambda: self._move(table.placed, table.available_slots(), table.members),
            )
        else:
            fleet.availability_changed(slot)

    def ended(self, slot: Slot) -> None:
        """
        Called by a slot that has become empty: if it was taken away, and its last worker was
        killed, the others take in what that has left in the store.
        """
        fleet = self._fleet
        leaves = any(m.slot is slot and m.workers.ended_badly for m in fleet.table.leaving)
        fleet.ended(slot)
        if leaves:
            self._collect(lambda: fleet.slots)

    def came_back(self, slot: Slot) -> None:
        """
        Called by a slot that serves again after a death: in its store may be what requests held
        when its former worker was to give it away.
        """
        self._collect(lambda: [slot])

    def _collect(self, slots: Callable[[], Sequence[Slot]]) -> None:
        """
        Have workers take in what slots have left that there are not any more, and send on what
        does not belong to them.  Clients whose sessions that are wait meanwhile where these come:
        they were announced.
        """

        async def collect() -> None:
            table = self._fleet.table
            placement = table.placed, table.available_slots()
            workers = [slot.worker for slot in slots() if slot.worker is not None]
            await DeferredList([self._within_reason(w.release(placement)) for w in workers])

        if self._keeps_in_slots and self._fleet.running:
            self._in_turn("collect", collect)

    async def _move(self, placed: int, available: Sequence[int], members: Sequence[Member]) -> None:
        """
        Have workers give away what does not belong to them by the new placement, while
        newcomers wait; then place by it.
        """
        fleet = self._fleet
        self.steps.tell(Step("move", "connections and sessions go where they belong now"))
        fleet.hold()
        for member in members:
            member.slot.pause()
        given = await self._give(placed, available, members)
        for member in members:
            slot = member.slot
            # Whoever waits for a worker that is not there yet may belong elsewhere too.
            fleet.hold_first(slot.release())
            slot.go_on()
            if slot in given and slot.successor is given[slot]:
                slot.occupy(given[slot])
        fleet.table.keepers.prune()
        fleet.place_again(placed)

    async def _give(
        self, placed: int, available: Sequence[int], members: Sequence[Member]
    ) -> dict[Slot, IWorker]:
        """
        Have workers give away; where sessions outlive them, until none has died meanwhile and
        all has arrived.

        :return: who was asked to, by slot: the last one of each.
        """
        fleet = self._fleet
        asked: dict[Slot, IWorker] = {}
        again: dict[Slot, IWorker] = {}
        deadline = fleet.clock.seconds() + MOVE_SECONDS
        while True:
            present, undelivered = self._present(members), fleet.undelivered
            lost: list[IWorker] = []
            # Again while others begin to serve meanwhile: they would keep what they got.
            while begun := {**again, **self._begun(members)}:
                asked.update(begun)
                again = {}
                lost += await self._release(begun, placed, available)
            if not self._keeps_in_slots or fleet.clock.seconds() >= deadline:
                return asked
            came_back = await self._come_back(members, lost)
            unchanged = present == self._present(members) and undelivered == fleet.undelivered
            if unchanged and not came_back and not self._begun(members):
                return asked
            # What was on its way to one that has died is with its sender again.
            again = {slot: worker for slot, worker in asked.items() if slot.successor is worker}

    def _begun(self, members: Sequence[Member]) -> dict[Slot, IWorker]:
        """
        Who serves, or would, and was not asked yet to give away.
        """
        found = {member.slot: member.slot.worker or member.slot.begun for member in members}
        return {slot: worker for slot, worker in found.items() if worker is not None}

    def _release(
        self, workers: Mapping[Slot, IWorker], placed: int, available: Sequence[int]
    ) -> Deferred[list[IWorker]]:
        """
        Have workers give away what does not belong to them.

        :return: fires when they have, or are gone, or after a while; with those that are gone.
        """
        lost: list[IWorker] = []
        releases = []
        for slot, worker in workers.items():
            # What waits may not be its own any more, so nothing goes to it meanwhile.
            slot.hold(worker)
            if self._limits.by_client and worker.knows_clients:
                # Whoever is known stays; the new placement is for newcomers.
                keeper = self._fleet.table.keepers.begin(slot, worker)
                if slot.index not in available:
                    keeper.stay()
                released = worker.keep((placed, available))
            else:
                released = worker.release((placed, available))
            released.addErrback(self._giver_died, lost, worker)
            releases.append(self._within_reason(released))
        return DeferredList(releases).addCallback(lambda _: lost)

    def _giver_died(self, failure: Failure, lost: list[IWorker], worker: IWorker) -> None:
        lost.append(worker)
        self._log.info("A worker ended while it gave away what it had", event="sessions.giver-died")

    def _everyone(self, members: Sequence[Member]) -> list[Member]:
        return [*members, *(m for m in self._fleet.table.members if m not in members)]

    def _present(self, members: Sequence[Member]) -> list[IWorker | None]:
        """
        Who has the slots, those that sessions are sent to among them.
        """
        slots = [member.slot for member in self._everyone(members)]
        return [slot.successor or slot.worker for slot in slots]

    async def _come_back(self, members: Sequence[Member], lost: Sequence[IWorker]) -> bool:
        """
        Wait for the successors of workers that have died: what is in a slot's store must be
        given away by one.

        :param lost: those of which no more is known than that they do not answer.
        :return: whether there were such.
        """
        missing = []
        for member in self._everyone(members):
            slot = member.slot
            keeper = slot.successor or slot.worker
            if (keeper is None or keeper in lost) and not (slot.failed or member.ended):
                missing.append(member)
        if not missing:
            return False
        ready: Deferred[Any] = DeferredList([self._ready(member) for member in missing])
        await self._within_reason(ready)
        return True

    def _within_reason(
        self, released: Deferred[None], seconds: float = SWITCH_OVER_SECONDS
    ) -> Deferred[None]:
        """
        :return: fires when ``released`` has fired or failed, or after a while; it is not
            cancelled then, so a worker that is late still hears of it.
        """
        waiting: Deferred[None] = Deferred()

        def go_on(_: object = None) -> None:
            if not waiting.called:
                waiting.callback(None)

        overdue = self._fleet.clock.callLater(seconds, go_on)
        released.addErrback(lambda _: None).addCallback(go_on)
        waiting.addCallback(lambda _: overdue.cancel() if overdue.active() else None)
        return waiting
