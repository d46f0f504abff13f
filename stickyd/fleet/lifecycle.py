"""
The life of a slot's workers: a state machine.

Theory of operation::

    empty --start--> starting --ready--> serving
                      ^   |                 |
                retry |   | died            | died
                      |   v                 |
                   backing off <------------+
                          |
                          | give up: too many deaths in a row before ready
                          v
                        failed

``stop`` leads from anywhere to *empty*, through *stopping* where a worker lives.

A worker that dies before it is ready counts as a crash; enough of them in a row, and the
slot fails, loudly, while the others go on.  One that dies after it was ready is replaced
without end, at once if it had been sound, else with growing back-off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from automat import TypeMachineBuilder
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.backoff import Backoff
    from stickyd.fleet.slot import Slot
    from stickyd.interfaces import ISpawner, IWorker

#: A worker that served this many seconds was sound: its death costs its successor no delay.
SOUND_SECONDS = 5.0

_log = Logger()


class Lifecycle(Protocol):
    """
    The inputs of the machine.
    """

    def start(self) -> None:
        """
        A worker is wanted.
        """

    def ready(self) -> None:
        """
        The worker serves.
        """

    def died(self, cause: str) -> None:
        """
        The worker's process has ended; ``cause`` says how, for the log.
        """

    def retry(self) -> None:
        """
        The back-off is over.
        """

    def give_up(self) -> None:
        """
        There were too many crashes.
        """

    def stop(self, patience: float) -> None:
        """
        No worker is wanted; the present one may finish within ``patience`` seconds.
        """


@dataclass
class Life:
    """
    What the states share.

    :ivar most_crashes: deaths in a row before ready at which the slot gives up.
    :ivar rehome: takes the connections of a slot that has failed.
    :ivar ended: called whenever the slot has become empty.
    :ivar restarts: how many workers were started after the first.
    """

    slot: Slot
    clock: IReactorTime
    spawner: ISpawner
    backoff: Backoff
    most_crashes: int
    gave_up: Callable[[Slot], None]
    ended: Callable[[Slot], None]
    worker: IWorker | None = None
    crashes: int = 0
    failures: int = 0
    restarts: int = 0
    ready_at: float = 0.0
    retry: IDelayedCall | None = None

    def spawn(self, machine: Lifecycle) -> None:
        """
        Start a worker.
        """
        self.retry = None
        self.worker = self.spawner.spawn(self.slot, machine.ready, machine.died)

    def bury(self, cause: str, what_now: str) -> None:
        """
        Log a death, and keep what the dead worker had not acknowledged.
        """
        worker = self.take_worker()
        unacknowledged = worker.reclaim()
        self.slot.vacate(unacknowledged)
        _log.error(
            "Worker {pid} (slot {slot}) {cause}; {replayed} unacknowledged connections will be"
            " replayed, {waiting} wait; {what_now}",
            pid=worker.pid,
            slot=self.slot.index,
            cause=cause,
            replayed=len(unacknowledged),
            waiting=len(self.slot.queue) - len(unacknowledged),
            what_now=what_now,
        )

    def take_worker(self) -> IWorker:
        worker, self.worker = self.worker, None
        if worker is None:
            raise AssertionError("a worker ended that was never spawned")
        return worker


def _build() -> Callable[[Life], Lifecycle]:
    machine = TypeMachineBuilder(Lifecycle, Life)
    empty = machine.state("empty")
    starting = machine.state("starting")
    serving = machine.state("serving")
    backing_off = machine.state("backing off")
    stopping = machine.state("stopping")
    failed = machine.state("failed")

    for wanted in (starting, serving, backing_off):
        wanted.upon(Lifecycle.start).loop().returns(None)
    for unwanted in (empty, stopping):
        unwanted.upon(Lifecycle.stop).loop().returns(None)
    # The worker's answer and the stop crossed on the way.
    stopping.upon(Lifecycle.ready).loop().returns(None)

    @empty.upon(Lifecycle.start).to(starting)
    @failed.upon(Lifecycle.start).to(starting)
    def begin(machine: Lifecycle, life: Life) -> None:
        life.crashes = life.failures = 0
        life.slot.failed = False
        life.spawn(machine)

    @backing_off.upon(Lifecycle.retry).to(starting)
    def again(machine: Lifecycle, life: Life) -> None:
        life.restarts += 1
        life.spawn(machine)

    @starting.upon(Lifecycle.ready).to(serving)
    def serve(machine: Lifecycle, life: Life) -> None:
        life.crashes = 0
        life.ready_at = life.clock.seconds()
        if life.worker is not None:
            life.slot.occupy(life.worker)

    @starting.upon(Lifecycle.died).to(backing_off)
    def crash(machine: Lifecycle, life: Life, cause: str) -> None:
        life.crashes += 1
        life.failures += 1
        if life.crashes >= life.most_crashes:
            life.bury(cause, "the slot gives up")
            machine.give_up()
        else:
            back_off(machine, life, cause)

    @serving.upon(Lifecycle.died).to(backing_off)
    def death(machine: Lifecycle, life: Life, cause: str) -> None:
        lasted = life.clock.seconds() - life.ready_at
        life.failures = 0 if lasted >= SOUND_SECONDS else life.failures + 1
        back_off(machine, life, cause)

    def back_off(machine: Lifecycle, life: Life, cause: str) -> None:
        # The first quick death is forgiven, as one death says nothing of the next.
        delay = life.backoff.delay(life.failures - 1)
        life.bury(cause, f"next start in {delay:.2f} s" if delay else "next start now")
        life.retry = life.clock.callLater(delay, machine.retry)

    @backing_off.upon(Lifecycle.give_up).to(failed)
    def fail(machine: Lifecycle, life: Life) -> None:
        life.slot.failed = True
        _log.critical(
            "Slot {slot} failed: {crashes} workers in a row died before they were ready."
            " Its clients go to the other slots until a reload or restart mends it",
            slot=life.slot.index,
            crashes=life.crashes,
        )
        life.gave_up(life.slot)

    @starting.upon(Lifecycle.stop).to(stopping)
    @serving.upon(Lifecycle.stop).to(stopping)
    def finish(machine: Lifecycle, life: Life, patience: float) -> None:
        if life.worker is not None:
            life.worker.stop(patience)

    @backing_off.upon(Lifecycle.stop).to(empty)
    def cancel(machine: Lifecycle, life: Life, patience: float) -> None:
        if life.retry is not None:
            life.retry.cancel()
        life.ended(life.slot)

    @failed.upon(Lifecycle.stop).to(empty)
    def forget(machine: Lifecycle, life: Life, patience: float) -> None:
        life.ended(life.slot)

    @stopping.upon(Lifecycle.died).to(empty)
    def rest(machine: Lifecycle, life: Life, cause: str) -> None:
        worker = life.take_worker()
        life.slot.vacate(worker.reclaim())
        _log.info(
            "Worker {pid} (slot {slot}) {cause}",
            pid=worker.pid,
            slot=life.slot.index,
            cause=cause,
        )
        life.ended(life.slot)

    return machine.build()


#: Makes the machine of one slot.
new_lifecycle = _build()
