"""
Who keeps clients that a newcomer in their place would not find: workers that were relieved, and
workers some of whose clients the placement would send elsewhere by now.

Theory of operation.  A worker is named by its slot and its *generation*.  A token says both, so
its client is found without a table.  What a client is known by else (an affinity key, a learned
id) the worker itself reports when it becomes a keeper; so there is a table only while there are
keepers, of what they have reported and no more.

A keeper that still has its slot gets its clients by the slot's queue.  A relieved one has a queue
of its own, as another worker has the slot's.  It ends when it knows nobody any more, at its
deadline, or when there are too many: then it gives away what it has, as a worker does that is
relieved with nobody to keep.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from stickyd.fleet.keeper import Keeper
from stickyd.handoff.frame import BY_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from twisted.internet.interfaces import IReactorTime

    from stickyd.fleet.interfaces import IWorker
    from stickyd.fleet.slot import Slot
    from stickyd.handoff.frame import Handoff

#: How many clients without tokens are remembered by default.
MOST_KNOWN = 100_000


class Keepers:
    """
    All keepers, and whom they keep.

    :ivar homes: them, by slot and generation.
    :ivar most: how many clients without tokens may be remembered.
    :ivar cut: how many clients were reported that there was no room for.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, most: int = MOST_KNOWN) -> None:
        self.homes: dict[tuple[int, int], Keeper] = {}
        self.cut = 0
        self._clock = clock
        self.most = most
        self._keys: dict[bytes, Keeper] = {}
        self._ids: dict[bytes, Keeper] = {}
        self._make_queue: Callable[[int], Slot] | None = None
        self._changed: Callable[[], object] = lambda: None
        self._deliver: Callable[[Handoff], object] = lambda handoff: None
        self._retire: Callable[[Keeper], object] = lambda keeper: None

    def open(
        self,
        make_queue: Callable[[int], Slot],
        deliver: Callable[[Handoff], object],
        changed: Callable[[], object],
        retire: Callable[[Keeper], object],
    ) -> None:
        """
        Begin.

        :param make_queue: makes the queue of a relieved worker of a slot.
        :param deliver: gets connections that waited for a keeper that is none any more.
        :param changed: told when workers must know of other keepers than before.
        :param retire: has a keeper give away what it has, and end.
        """
        self._make_queue = make_queue
        self._deliver, self._changed, self._retire = deliver, changed, retire

    def bound(self, most: int) -> None:
        """
        Remember so many clients without tokens from now on.
        """
        self.most = most

    def __len__(self) -> int:
        """
        How many clients are remembered by a key or an id.
        """
        return len(self._keys) + len(self._ids)

    def __iter__(self) -> Iterator[Keeper]:
        return iter(list(self.homes.values()))

    # what is asked of it for connections

    def keeps(self, slot: int, generation: int) -> bool:
        """
        See :class:`stickyd.affinity.resolve.Keeping`.
        """
        return (slot, generation) in self.homes

    def keeper_of_id(self, identifier: bytes) -> tuple[int, int] | None:
        """
        See :class:`stickyd.affinity.resolve.Keeping`.
        """
        keeper = self._ids.get(identifier)
        return None if keeper is None else keeper.home

    def keeper_of_key(self, key: bytes) -> Keeper | None:
        """
        Who keeps the client of an affinity key.
        """
        return self._keys.get(key)

    def find(self, handoff: Handoff) -> Keeper | None:
        """
        Who keeps the client of a connection's next request.
        """
        if handoff.slot == BY_KEY:
            return self._keys.get(handoff.key)
        if handoff.learned and (keeper := self._ids.get(handoff.learned)) is not None:
            # It may have been placed before its keeper had said that it is one.
            return keeper
        return self.homes.get((handoff.slot, handoff.generation))

    @property
    def for_workers(self) -> tuple[list[tuple[int, int]], bool]:
        """
        What workers must know: who keeps clients, and whether some are known by their keys, so
        that the primary must be asked whose a key is.
        """
        return list(self.homes), bool(self._keys)

    def queued(self) -> int:
        """
        How many connections wait for relieved workers.
        """
        return sum(len(each.queue.queue) for each in self.homes.values() if each.is_relieved)

    # how keepers come and go

    def note_move(self) -> None:
        """
        Take note that clients are placed in another way from now on.
        """
        for keeper in self.homes.values():
            keeper.note_move()

    def begin(self, slot: Slot, worker: IWorker) -> Keeper:
        """
        Have a worker be a keeper, from the moment at which it is asked whom it knows.

        :param slot: its own.
        """
        home = slot.index, worker.generation
        keeper = self.homes.get(home)
        if keeper is None or keeper.worker is not worker:
            keeper = self.homes[home] = Keeper(home, worker, slot)
        return keeper

    def of(self, worker: IWorker | None) -> Keeper | None:
        """
        A worker as a keeper, if it is one.
        """
        return next((each for each in self.homes.values() if each.worker is worker), None)

    def relieve(self, worker: IWorker, seconds: float) -> None:
        """
        Have a keeper go on beside the worker that has its slot from now on.

        :param seconds: how long at most.
        """
        keeper = self.of(worker)
        if keeper is None or self._make_queue is None:
            return
        slot = keeper.queue
        now = self._clock.seconds()
        keeper.begin_queue(self._make_queue(keeper.home[0]), now)
        keeper.end_at(now + seconds, self._clock.callLater(seconds, self.retire, keeper))
        worker.serve_beside(keeper.queue)
        keeper.queue.occupy(worker)
        # What waits for the switch-over may be of its clients.
        for handoff in slot.release():
            (keeper.queue if self.find(handoff) is keeper else slot).deliver(handoff)
        self._changed()

    def reinstate(self, worker: IWorker, slot: Slot) -> None:
        """
        Have a relieved keeper have its slot again; what waits for it waits there.

        :param slot: which nobody has now.
        """
        keeper = self.of(worker)
        if keeper is None:
            return
        waiting = keeper.queue.release()
        keeper.queue.vacate([])
        keeper.end_never()
        keeper.begin_queue(slot, None)
        worker.serve_beside(slot)
        slot.wait_first(waiting)

    def end_after(self, worker: IWorker | None, seconds: float | None) -> None:
        """
        Have a keeper that has its slot give its clients away, if it is one.

        :param seconds: after how long; None to be a keeper only for as long as clients are
            remembered whose keys belong elsewhere.
        """
        keeper = self.of(worker)
        if keeper is None:
            return
        keeper.end_never()
        if seconds is not None:
            keeper.stay()
            overdue = self._clock.callLater(seconds, self.retire, keeper)
            keeper.end_at(self._clock.seconds() + seconds, overdue)

    def prune(self) -> None:
        """
        Have no keepers that have their slots and are found without being keepers.
        """
        for keeper in self:
            self._prune_one(keeper)

    def _prune_one(self, keeper: Keeper) -> None:
        if not (keeper.is_relieved or keeper.stays or keeper.count):
            self.end(keeper.worker)

    def retire(self, keeper: Keeper) -> None:
        """
        Have a keeper give away what it has, and end if it was relieved.
        """
        if self.homes.get(keeper.home) is keeper and not keeper.is_retiring:
            keeper.retire()
            self._retire(keeper)

    def end(self, worker: IWorker | None) -> None:
        """
        Have a worker be no keeper any more, if it is one: its clients are newcomers.
        """
        keeper = self.of(worker)
        if keeper is None:
            return
        del self.homes[keeper.home]
        keeper.cancel()
        self._keys = {key: each for key, each in self._keys.items() if each is not keeper}
        self._ids = {key: each for key, each in self._ids.items() if each is not keeper}
        if keeper.is_relieved:
            waiting = keeper.queue.release()
            keeper.queue.vacate([])
            for handoff in waiting:
                self._deliver(handoff)
        self._changed()

    # whom they keep

    def learn(self, home: tuple[int, int], keys: Sequence[bytes], ids: Sequence[bytes]) -> None:
        """
        Take note of whom a keeper knows.  What there is no room for is counted, and not kept.

        :param keys: affinity keys.
        :param ids: of :func:`stickyd.affinity.resolve.learned_id`.
        """
        keeper = self.homes.get(home)
        if keeper is None:
            return
        had_keys = bool(self._keys)
        for table, marks in ((self._keys, keys), (self._ids, ids)):
            room = max(0, self.most - len(self))
            for mark in marks[:room]:
                former = table.get(mark)
                if former is not None:
                    former.add(-1)
                table[mark] = keeper
                keeper.add(1)
            cut = len(marks) - room
            if cut > 0:
                if not self.cut:
                    self._log.warn(
                        "More clients are known to workers that keep them than are remembered"
                        " ({most}, --known-limit): the others are newcomers",
                        event="clients.not-remembered",
                        most=self.most,
                    )
                self.cut += cut
        if bool(self._keys) != had_keys and keeper.is_relieved:
            self._changed()

    def forget(self, home: tuple[int, int], keys: Sequence[bytes], ids: Sequence[bytes]) -> None:
        """
        Take note that a keeper keeps clients no longer.
        """
        keeper = self.homes.get(home)
        if keeper is None:
            return
        for table, marks in ((self._keys, keys), (self._ids, ids)):
            for mark in marks:
                if table.get(mark) is keeper:
                    del table[mark]
                    keeper.add(-1)
        self._prune_one(keeper)

    # a primary that replaces itself

    def dump_state(self) -> list[dict[str, Any]]:
        """
        The keepers as JSON can carry them, for :meth:`restore_state`.
        """
        now = self._clock.seconds()
        plain: dict[Keeper, dict[str, Any]] = {
            keeper: {
                "pid": keeper.worker.pid,
                "relieved_seconds": None if keeper.since is None else now - keeper.since,
                "seconds_left": None if keeper.until == inf else max(0.0, keeper.until - now),
                "stays": keeper.stays,
                "queue": keeper.queue.dump_queue() if keeper.is_relieved else [],
                "keys": [],
                "ids": [],
            }
            for keeper in self
        }
        for name, table in (("keys", self._keys), ("ids", self._ids)):
            for mark, keeper in table.items():
                plain[keeper][name].append(mark.hex())
        return list(plain.values())

    def restore_state(
        self, plain: Iterable[dict[str, Any]], workers: Mapping[int, tuple[IWorker, Slot]]
    ) -> None:
        """
        Go on from what :meth:`dump_state` gave.

        :param workers: every worker, and its slot, by pid.
        """
        for each in plain:
            worker, slot = workers[each["pid"]]
            keeper = self.begin(slot, worker)
            # Whatever has happened since it was relieved.
            keeper.note_move()
            left, relieved = each["seconds_left"], each["relieved_seconds"]
            if relieved is not None:
                self.relieve(worker, left)
                keeper.begin_queue(keeper.queue, self._clock.seconds() - relieved)
                keeper.queue.restore_queue(each["queue"])
                keeper.queue.room()
            elif left is not None:
                self.end_after(worker, left)
            elif each["stays"]:
                keeper.stay()
            marks = [[bytes.fromhex(mark) for mark in each[name]] for name in ("keys", "ids")]
            self.learn(keeper.home, *marks)
