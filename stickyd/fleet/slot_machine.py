"""
The life of a slot's workers: a state machine.

Theory of operation::

    empty --start--> starting --ready--> serving --reload--> relieving
                      ^   |               |   ^                  |
                retry |   | died     died |   | released         | the successor is ready
                      |   v               |   |                  v
                   backing off <----------+   +--------- switching over
                     |          ^
    too many deaths  |          | retry, ever more slowly: starting, died
    in a row before  v          |
    ready          failed ------+

``stop`` leads from anywhere to *empty*, through *stopping* where workers live.

A worker that dies before it is ready counts as a crash; enough of them in a row, and the
slot fails, loudly, while the others go on.  It is tried again all the same, ever more
slowly, and is available again when a worker gets ready.  One that dies after it was ready is
replaced without end, at once if it had been sound, else with growing back-off.

*relieving*: the worker serves on while its successor starts; a successor that dies leaves
everything as it was.  *switching over*: the successor is ready, new connections wait, and the
old worker hands over what it can; then the successor serves, and the old worker is
``leaving``: it finishes what could not be handed over.
"""

from __future__ import annotations

from collections.abc import Callable  # at run time: Automat evaluates the annotations
from typing import Any

from automat import TypeMachineBuilder

from stickyd.fleet.slot_inputs import SlotMachine
from stickyd.fleet.slot_workers import STOPPED, SlotWorkers


class _States:
    """
    The states of a machine that is being built.
    """

    def __init__(self, machine: TypeMachineBuilder[SlotMachine, SlotWorkers]) -> None:
        self.empty = machine.state("empty")
        self.starting = machine.state("starting")
        self.serving = machine.state("serving")
        self.backing_off = machine.state("backing off")
        self.failed = machine.state("failed")
        self.relieving = machine.state("relieving")
        self.switching_over = machine.state("switching over")
        self.stopping = machine.state("stopping")


def _begin(machine: SlotMachine, workers: SlotWorkers) -> None:
    workers.begin(machine)


def _add_starts(states: _States) -> None:
    """
    From nothing to a worker that serves.
    """
    wanted = (states.starting, states.serving, states.backing_off)
    for state in (*wanted, states.relieving, states.switching_over):
        state.upon(SlotMachine.start).loop().returns(None)

    states.empty.upon(SlotMachine.start).to(states.starting)(_begin)
    states.failed.upon(SlotMachine.start).to(states.starting)(_begin)

    @states.empty.upon(SlotMachine.inherit).to(states.serving)
    def go_on(machine: SlotMachine, workers: SlotWorkers, plain: dict[str, Any]) -> None:
        workers.inherit(machine, plain)

    @states.backing_off.upon(SlotMachine.retry).to(states.starting)
    @states.failed.upon(SlotMachine.retry).to(states.starting)
    def again(machine: SlotMachine, workers: SlotWorkers) -> None:
        workers.begin_again(machine)

    @states.starting.upon(SlotMachine.ready).to(states.serving)
    def serve(machine: SlotMachine, workers: SlotWorkers) -> None:
        workers.serve()


def _add_deaths(states: _States) -> None:
    """
    From a dead worker to the next one, or to none.
    """

    @states.starting.upon(SlotMachine.died).to(states.backing_off)
    def crash(machine: SlotMachine, workers: SlotWorkers, cause: str) -> None:
        if workers.crash(machine, cause):
            machine.give_up()

    @states.serving.upon(SlotMachine.died).to(states.backing_off)
    def death(machine: SlotMachine, workers: SlotWorkers, cause: str) -> None:
        workers.die(machine, cause)

    @states.backing_off.upon(SlotMachine.give_up).to(states.failed)
    def fail(machine: SlotMachine, workers: SlotWorkers) -> None:
        workers.fail()

    @states.relieving.upon(SlotMachine.died).to(states.starting)
    def follow(machine: SlotMachine, workers: SlotWorkers, cause: str) -> None:
        workers.follow(cause)

    @states.switching_over.upon(SlotMachine.died).to(states.serving)
    def follow_at_once(machine: SlotMachine, workers: SlotWorkers, cause: str) -> None:
        workers.record_death(cause, "its successor takes over")
        workers.promote()


def _add_reloads(states: _States) -> None:
    """
    From a worker to its successor, or back.
    """

    @states.serving.upon(SlotMachine.reload).to(states.relieving)
    def relieve(machine: SlotMachine, workers: SlotWorkers, done: Callable[[str], object]) -> None:
        workers.relieve(machine, done)

    @states.relieving.upon(SlotMachine.successor_ready).to(states.switching_over)
    def switch_over(machine: SlotMachine, workers: SlotWorkers) -> None:
        workers.hand_over(machine)

    @states.switching_over.upon(SlotMachine.released).to(states.serving)
    def promote(machine: SlotMachine, workers: SlotWorkers) -> None:
        workers.promote()

    @states.relieving.upon(SlotMachine.successor_died).to(states.serving)
    def keep(machine: SlotMachine, workers: SlotWorkers, cause: str) -> None:
        workers.drop_successor(cause)

    @states.switching_over.upon(SlotMachine.successor_died).to(states.serving)
    def take_back(machine: SlotMachine, workers: SlotWorkers, cause: str) -> None:
        workers.take_back(cause)


def _add_ways_back(states: _States) -> None:
    """
    From a worker to the one that it has relieved.
    """

    @states.serving.upon(SlotMachine.reinstate).to(states.switching_over)
    def reinstate(
        machine: SlotMachine, workers: SlotWorkers, done: Callable[[str], object]
    ) -> None:
        workers.reinstate(machine, done)

    @states.empty.upon(SlotMachine.reinstate).loop()
    @states.starting.upon(SlotMachine.reinstate).loop()
    @states.backing_off.upon(SlotMachine.reinstate).loop()
    @states.failed.upon(SlotMachine.reinstate).loop()
    @states.relieving.upon(SlotMachine.reinstate).loop()
    @states.switching_over.upon(SlotMachine.reinstate).loop()
    @states.stopping.upon(SlotMachine.reinstate).loop()
    def not_now(machine: SlotMachine, workers: SlotWorkers, done: Callable[[str], object]) -> None:
        done("it has no worker that serves")


def _add_other_reloads(states: _States) -> None:
    """
    A reload where no worker serves, or where one goes on.
    """

    @states.failed.upon(SlotMachine.reload).to(states.starting)
    def recover(machine: SlotMachine, workers: SlotWorkers, done: Callable[[str], object]) -> None:
        _begin(machine, workers)
        done("")

    @states.backing_off.upon(SlotMachine.reload).loop()
    @states.starting.upon(SlotMachine.reload).loop()
    def fresh_anyway(
        machine: SlotMachine, workers: SlotWorkers, done: Callable[[str], object]
    ) -> None:
        done("")

    @states.relieving.upon(SlotMachine.reload).loop()
    @states.switching_over.upon(SlotMachine.reload).loop()
    def busy(machine: SlotMachine, workers: SlotWorkers, done: Callable[[str], object]) -> None:
        done("a reload is under way already")

    @states.empty.upon(SlotMachine.reload).loop()
    @states.stopping.upon(SlotMachine.reload).loop()
    def no_more(machine: SlotMachine, workers: SlotWorkers, done: Callable[[str], object]) -> None:
        done(STOPPED)


def _add_stops(states: _States) -> None:
    """
    From anything to nothing.
    """
    for unwanted in (states.empty, states.stopping):
        unwanted.upon(SlotMachine.stop).loop().returns(None)
    # The workers' answers and the stop crossed on the way.
    states.stopping.upon(SlotMachine.ready).loop().returns(None)
    states.stopping.upon(SlotMachine.successor_ready).loop().returns(None)

    @states.starting.upon(SlotMachine.stop).to(states.stopping)
    @states.serving.upon(SlotMachine.stop).to(states.stopping)
    @states.relieving.upon(SlotMachine.stop).to(states.stopping)
    @states.switching_over.upon(SlotMachine.stop).to(states.stopping)
    @states.failed.upon(SlotMachine.stop).to(states.stopping)
    @states.backing_off.upon(SlotMachine.stop).to(states.stopping)
    def finish(machine: SlotMachine, workers: SlotWorkers, patience: float) -> None:
        workers.stop(machine, patience)

    @states.empty.upon(SlotMachine.inherit_leaving).to(states.stopping)
    def finish_on(machine: SlotMachine, workers: SlotWorkers, plains: list[dict[str, Any]]) -> None:
        workers.finish_on(machine, plains)

    @states.stopping.upon(SlotMachine.died).loop()
    def rest(machine: SlotMachine, workers: SlotWorkers, cause: str) -> None:
        workers.record_exit(machine, workers.take_worker(), cause)

    @states.stopping.upon(SlotMachine.successor_died).loop()
    def rest_too(machine: SlotMachine, workers: SlotWorkers, cause: str) -> None:
        workers.record_successor_exit(machine, cause)

    @states.stopping.upon(SlotMachine.gone).to(states.empty)
    def end(machine: SlotMachine, workers: SlotWorkers) -> None:
        workers.ended(workers.slot)


def _build() -> Callable[[SlotWorkers], SlotMachine]:
    machine = TypeMachineBuilder(SlotMachine, SlotWorkers)
    states = _States(machine)
    _add_starts(states)
    _add_deaths(states)
    _add_reloads(states)
    _add_ways_back(states)
    _add_other_reloads(states)
    _add_stops(states)
    return machine.build()


#: Makes the machine of one slot.
new_machine = _build()
