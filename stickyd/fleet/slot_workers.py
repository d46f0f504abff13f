"""
What the states of a slot's state machine share, and what they do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.fleet.interfaces import IWorker
    from stickyd.fleet.keepers import Keepers
    from stickyd.fleet.restarts import Restarts
    from stickyd.fleet.slot import Slot
    from stickyd.fleet.slot_inputs import SlotMachine
    from stickyd.fleet.slot_services import ISpawner
    from stickyd.fleet.worker_limits import WorkerLimits

#: Why a slot is not reloaded that is to have no worker any more; it is no error.
STOPPED = "the slot is being stopped"

#: How a worker ends that was told to and did.
SOUND_END = "exited with code 0"

#: Seconds that new connections wait for a worker to give away what it can.  A worker waits for
#: no request that long (:data:`stickyd.worker.give_away.REQUEST_SECONDS`), unless its reactor is
#: stuck.
SWITCH_OVER_SECONDS = 10.0


@dataclass
class SlotWorkers:
    """
    A slot's workers, past, present and next.

    :ivar restarts: when the next one is started.
    :ivar limits: of all slots; may change.
    :ivar availability_changed: told when the slot fails or is available again.
    :ivar ended: told whenever the slot has become empty.
    :ivar keepers: the workers that keep clients, of all slots.
    :ivar worker: the worker that serves, or will when it has started.
    :ivar successor: the worker that will relieve it.
    :ivar leaving: relieved workers that have not exited yet, the longest relieved first.
    :ivar cut_short: the pids of those that were given no more time.
    :ivar switch_over: identifies the hand-over that is under way, if one is.
    :ivar first_outcome: told once whether the slot came to serve or failed.
    :ivar last_death: the last worker that died and was not told to end, and how.
    :ivar came_back: told when the slot serves again after a death.
    :ivar has_died: whether it has not served since a death.
    :ivar ended_badly: whether one that was told to end was killed before it had.
    """

    slot: Slot
    clock: IReactorTime
    spawner: ISpawner
    restarts: Restarts
    limits: WorkerLimits
    availability_changed: Callable[[Slot], None]
    ended: Callable[[Slot], None]
    keepers: Keepers
    worker: IWorker | None = None
    successor: IWorker | None = None
    leaving: list[IWorker] = field(default_factory=list)
    cut_short: set[int] = field(default_factory=set)
    reloaded: Callable[[str], object] | None = None
    stopping: bool = False
    switch_over: object = None
    first_outcome: Callable[[bool], object] | None = None
    last_death: tuple[IWorker, str] | None = None
    came_back: Callable[[Slot], None] | None = None
    has_died: bool = False
    ended_badly: bool = False
    _log = Logger()

    # the start

    def begin(self, machine: SlotMachine) -> None:
        """
        Start a worker, with nothing on record against the slot.
        """
        self.restarts.forget()
        self.worker = self.spawn(machine)

    def begin_again(self, machine: SlotMachine) -> None:
        """
        Start the next worker: the back-off is over.
        """
        self.worker = self.spawn(machine)

    def inherit(self, machine: SlotMachine, plain: dict[str, Any]) -> None:
        """
        Go on with the worker that served at a former self of this primary.

        :param plain: its state.
        """
        self.worker = self.spawn(machine, plain)
        self.serve()

    def spawn(self, machine: SlotMachine, plain: dict[str, Any] | None = None) -> IWorker:
        """
        Start a worker.  Its events reach the machine as those of the part that it plays when
        they happen.

        :param plain: the state of a worker to go on with, instead of a new one.
        """

        def ready() -> None:
            if worker is self.worker:
                machine.ready()
            else:
                machine.successor_ready()

        def died(cause: str) -> None:
            if worker is self.worker:
                machine.died(cause)
            elif worker is self.successor:
                machine.successor_died(cause)
            else:
                self.keepers.end(worker)
                self.leaving.remove(worker)
                self.record_exit(machine, worker, cause)

        if plain is None:
            worker = self.spawner.spawn(self.slot, ready, died)
        else:
            worker = self.spawner.restore(self.slot, ready, died, plain)
        return worker

    def all_ready(self) -> list[IWorker]:
        """
        The workers that serve, or still finish what they served.
        """
        serving = self.slot.worker
        return [*self.leaving, *([] if serving is None else [serving])]

    def take_worker(self) -> IWorker:
        """
        Have no present worker any more.
        """
        worker, self.worker = self.worker, None
        if worker is None:
            raise AssertionError("a worker ended that was never spawned")
        return worker

    def serve(self) -> None:
        """
        Let the present worker have the slot's connections.
        """
        self.restarts.served()
        had_failed = self.slot.failed
        if self.worker is not None:
            self.slot.occupy(self.worker)
        if had_failed:
            self.availability_changed(self.slot)
        self.tell_outcome(True)
        has_died, self.has_died = self.has_died, False
        if has_died and self.came_back is not None:
            self.came_back(self.slot)

    def call_when_decided(self, call: Callable[[bool], object]) -> None:
        """
        Have ``call`` told, once, whether the slot has come to serve or has failed.
        """
        self.first_outcome = call

    def tell_outcome(self, serves: bool) -> None:
        """
        Tell whether the slot serves, if somebody waits to hear it.
        """
        waiting, self.first_outcome = self.first_outcome, None
        if waiting is not None:
            waiting(serves)

    # deaths

    def crash(self, machine: SlotMachine, cause: str) -> bool:
        """
        Take note that a worker has died before it was ready.

        :return: whether there were too many of those in a row.
        """
        self.restarts.crashed()
        self.back_off(machine, cause)
        return self.restarts.has_failed

    def die(self, machine: SlotMachine, cause: str) -> None:
        """
        Take note that a worker has died that had served.
        """
        self.restarts.died()
        self.back_off(machine, cause)

    def follow(self, cause: str) -> None:
        """
        Have the successor, which has not started yet, in the place of the worker that has
        died.
        """
        self.record_death(cause, "its successor is starting already")
        self.worker, self.successor = self.successor, None
        self.report("")

    def record_death(self, cause: str, what_now: str) -> None:
        """
        Log the death of the present worker, and keep what it had not acknowledged.
        """
        worker = self.take_worker()
        self.keepers.end(worker)
        self.last_death = worker, cause
        self.has_died = True
        self.slot.figures.died(cause)
        has_served = self.slot.worker is worker
        unacknowledged = worker.reclaim()
        self.slot.vacate(unacknowledged)
        replayed, queued = len(unacknowledged), len(self.slot.queue)
        connections = ""
        if has_served or queued:
            connections = (
                f" {replayed} unacknowledged connections will be replayed,"
                f" {queued - replayed} wait;"
            )
        self._log.error(
            "Worker {pid} (slot {slot}) {cause};{connections} {what_now}",
            event="worker.died",
            pid=worker.pid,
            slot=self.slot.index,
            cause=cause,
            connections=connections,
            what_now=what_now,
        )

    def back_off(self, machine: SlotMachine, cause: str) -> None:
        """
        Record the death of the present worker, and start the next one after a while.
        """
        # Where a spare has started, so could any other.
        delay = 0.0 if self.spawner.spare else self.restarts.delay
        self.record_death(cause, f"next start in {delay:.2f} s" if delay else "next start now")
        self.restarts.start_later(delay, machine.retry)
        if delay:
            self.spawner.call_when_spare(self.restarts.hasten)

    def fail(self) -> None:
        """
        Have the clients placed elsewhere, until a worker gets ready after all.
        """
        if self.restarts.crashes == self.limits.crashes:
            self._log.critical(
                "Slot {slot} failed: {crashes} workers in a row died before they were ready."
                " Its clients go to the other slots; it is tried again, ever more slowly, and"
                " at once by a reload",
                event="slot.failed",
                slot=self.slot.index,
                crashes=self.restarts.crashes,
            )
        if not self.slot.failed:
            self.slot.fail()
            self.availability_changed(self.slot)
        self.tell_outcome(False)

    # reload

    def relieve(self, machine: SlotMachine, done: Callable[[str], object]) -> None:
        """
        Start a successor.

        :param done: told how it went.
        """
        self.reloaded = done
        self.successor = self.spawn(machine)

    @property
    def former(self) -> IWorker | None:
        """
        The worker that was relieved last, if it keeps its clients.
        """
        for worker in reversed(self.leaving):
            keeper = self.keepers.of(worker)
            if keeper is not None and not keeper.is_retiring:
                return worker
        return None

    def reinstate(self, machine: SlotMachine, done: Callable[[str], object]) -> None:
        """
        Have the worker that was relieved last have the slot again.

        :param done: told how it went.
        """
        worker = self.former
        if worker is None:
            raise AssertionError("somebody is reinstated who has left")
        self.reloaded = done
        self.successor = worker
        self.leaving.remove(worker)
        self.slot.renew(worker.generation)
        self.slot.hold(worker)
        self.keepers.reinstate(worker, self.slot)
        worker.stay()
        self.hand_over(machine)

    def hand_over(self, machine: SlotMachine) -> None:
        """
        Let newcomers wait while the present worker gives to its successor what it can.
        """
        self.slot.hold(self.successor)
        switch_over = self.switch_over = object()

        def released(_: object = None) -> None:
            if self.switch_over is switch_over:
                self.switch_over = None
                machine.released()

        self.clock.callLater(SWITCH_OVER_SECONDS, released)
        worker = self.worker
        if worker is not None and self.limits.by_client and worker.knows_clients:
            self.keepers.begin(self.slot, worker).stay()
            worker.keep(None).addBoth(released)
        elif worker is not None:
            worker.release(None).addBoth(released)

    def promote(self) -> None:
        """
        Let the successor serve, and the old worker, if it lives, leave in peace.
        """
        self.switch_over = None
        if self.worker is not None:
            self.slot.figures.relieved()
            worker = self.take_worker()
            if self.keepers.of(worker) is None:
                self.dismiss(worker)
            else:
                self.keep(worker)
        self.worker, self.successor = self.successor, None
        self.serve()
        self.report("")

    def dismiss(self, worker: IWorker) -> None:
        """
        Have a worker finish what it has.  If too many do, the one that was relieved first gets
        no more time.
        """
        self.leaving.append(worker)
        self.keepers.end(worker)
        worker.stop(self.limits.drain_seconds)
        self._bound_leaving()

    def keep(self, worker: IWorker) -> None:
        """
        Have a worker go on with the clients that it knows, beside its successor.
        """
        self.leaving.append(worker)
        self.keepers.relieve(worker, self.limits.drain_seconds)
        self._log.info(
            "Worker {pid} (slot {slot}, generation {generation}{name}) keeps the clients that it"
            " knows, for {seconds:g} s at most",
            event="worker.keeps-clients",
            pid=worker.pid,
            slot=self.slot.index,
            generation=worker.generation,
            name=worker.generation_name and f", {worker.generation_name}",
            seconds=self.limits.drain_seconds,
        )
        self._bound_leaving()

    def _bound_leaving(self) -> None:
        for oldest in self.leaving[: -self.limits.leaving]:
            keeper = self.keepers.of(oldest)
            if keeper is not None and keeper.is_retiring:
                continue
            if keeper is not None:
                self._log.warn(
                    "Worker {pid} (slot {slot}) gives its clients away before they have left: more"
                    " than {most} relieved workers of its slot (--max-leaving)",
                    event="worker.retired-early",
                    pid=oldest.pid,
                    slot=self.slot.index,
                    most=self.limits.leaving,
                )
                self.keepers.retire(keeper)
            elif oldest.pid not in self.cut_short:
                self.cut_short.add(oldest.pid)
                self._log.warn(
                    "Worker {pid} (slot {slot}) is ended before it has finished: more than"
                    " {most} relieved workers of its slot (--max-leaving)",
                    event="worker.ended-early",
                    pid=oldest.pid,
                    slot=self.slot.index,
                    most=self.limits.leaving,
                )
                oldest.stop(0.0)

    def take_back(self, cause: str) -> None:
        """
        Have the old worker go on, as its successor died when it took over.  It has what
        it had not given away yet; connections come back to it; the sessions that the
        successor had already are lost with it.
        """
        self.switch_over = None
        if self.worker is not None:
            self.keepers.end(self.worker)
            self.worker.stay()
            self.slot.occupy(self.worker)
        self.drop_successor(cause)

    def drop_successor(self, cause: str) -> None:
        """
        Go on with the present worker, as the fresh one did not get ready.
        """
        successor, self.successor = self.successor, None
        if successor is not None:
            self.keepers.end(successor)
            # One that had the slot before may have been given what it has not taken.
            self.slot.replay(successor.reclaim())
        reason = f"the fresh worker {cause}"
        self._log.error(
            "Slot {slot} keeps its worker {pid}: {reason}",
            event="reload.slot-keeps-worker",
            slot=self.slot.index,
            pid=self.worker.pid if self.worker is not None else 0,
            reason=reason,
        )
        self.report(reason)

    def report(self, outcome: str) -> None:
        """
        Tell how the reload went, if there is one.
        """
        done, self.reloaded = self.reloaded, None
        if done is not None:
            done(outcome)

    # stop

    def stop(self, machine: SlotMachine, patience: float) -> None:
        """
        Have all workers end, and no new one start.
        """
        self.switch_over = None
        self.restarts.cancel()
        if self.worker is not None and self.keepers.of(self.worker) is not None:
            # The slot goes, and whoever is known stays.
            self.slot.hold(None)
            self.keep(self.take_worker())
        self.shorten_deadline(patience)
        self.report(STOPPED)
        self.tell_outcome(False)
        self.finish(machine)

    def finish_on(self, machine: SlotMachine, plains: list[dict[str, Any]]) -> None:
        """
        Have the workers that a former self of this primary had finish what they have.
        """
        self.leaving = [self.spawn(machine, plain) for plain in plains]
        self.finish(machine)

    def finish(self, machine: SlotMachine) -> None:
        """
        Be gone when the last worker has ended.
        """
        self.stopping = True
        self._check_gone(machine)

    def shorten_deadline(self, patience: float) -> None:
        """
        Have all workers end within so many seconds.
        """
        for worker in (self.worker, self.successor, *self.leaving):
            if worker is not None and self.keepers.of(worker) is None:
                worker.stop(patience)

    def record_successor_exit(self, machine: SlotMachine, cause: str) -> None:
        """
        Log the end of a successor that was told to end.
        """
        successor, self.successor = self.successor, None
        if successor is not None:
            self.record_exit(machine, successor, cause)

    def record_exit(self, machine: SlotMachine, worker: IWorker, cause: str) -> None:
        """
        Log the end of a worker that was told to end.
        """
        self.cut_short.discard(worker.pid)
        self.ended_badly = self.ended_badly or cause != SOUND_END
        self.slot.wait_first(worker.reclaim())
        self.slot.room()
        self._log.info(
            "Worker {pid} (slot {slot}) {cause}",
            event="worker.left",
            pid=worker.pid,
            slot=self.slot.index,
            cause=cause,
        )
        self._check_gone(machine)

    def _check_gone(self, machine: SlotMachine) -> None:
        if self.stopping and not (self.worker or self.successor or self.leaving):
            self.stopping = False
            self.slot.vacate([])
            machine.gone()
