"""
The commands that change something.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twisted.internet.task import deferLater
from twisted.logger import Logger

from stickyd.errors import OperatorError
from stickyd.fleet.report import report_on
from stickyd.operate.command import (
    SLOT,
    SLOT_OR_ALL,
    WAIT,
    Argument,
    Command,
    IAsker,
    part,
    require_slot,
    whole,
)
from stickyd.operate.counted import counted
from stickyd.operate.departures import LOOK_SECONDS, relieved, wait_for_departures
from stickyd.settings.table import MOST_WORKERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stickyd.fleet.steps import Step
    from stickyd.operate.primary import Primary


_log = Logger()


@contextmanager
def _steps_told(primary: Primary, asker: IAsker) -> Iterator[None]:
    """
    Tell each step of the changes that are made meanwhile.
    """

    def told(step: Step) -> None:
        asker.step(step.text, change=step.change, slot=step.slot, done=step.done, total=step.total)

    stop = primary.operations.steps.watch(told)
    asker.call_when_closed(stop)
    under_way = primary.operations.steps.under_way
    if under_way is not None:
        asker.step(f"another change is under way first: {under_way.what}")
    try:
        yield
    finally:
        stop()


def _require_running(primary: Primary) -> None:
    if not primary.fleet.running:
        raise OperatorError("the server stops")


def _require_done(*problems: str) -> None:
    told = [problem for problem in problems if problem]
    if told:
        raise OperatorError("; ".join(told))


async def reload(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    Read the configuration again, and replace worker by worker.
    """
    _require_running(primary)
    settings = primary.reread()
    before = relieved(primary)
    fresh: int | None = None
    with _steps_told(primary, asker):
        if given["slots"] is None:
            problems = await primary.operations.reload(settings)
        else:
            fresh = given["slots"].of(primary.fleet.table.placed)
            problems = await primary.operations.reload_some(settings, fresh)
    _require_done(*problems)
    if given["wait"]:
        await wait_for_departures(primary, asker, before)
    return {"slots": primary.fleet.table.placed, "fresh": fresh}


async def go_on(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    Replace the workers that a canary has left.
    """
    _require_running(primary)
    before = relieved(primary)
    with _steps_told(primary, asker):
        _require_done(*await primary.operations.go_on())
    if given["wait"]:
        await wait_for_departures(primary, asker, before)
    return {"slots": primary.fleet.table.placed}


async def go_back(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    Have the workers that a canary has relieved be the present ones again.
    """
    _require_running(primary)
    with _steps_told(primary, asker):
        _require_done(*await primary.operations.go_back())
    return {"slots": primary.fleet.table.placed}


async def resize(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    Change the number of slots.
    """
    _require_running(primary)
    before = relieved(primary)
    with _steps_told(primary, asker):
        _require_done(await primary.operations.resize(given["count"]))
    if given["wait"]:
        await wait_for_departures(primary, asker, before)
    return {"slots": primary.fleet.table.placed}


async def drain(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    Keep clients away from a slot.
    """
    _require_running(primary)
    index = given["slot"]
    if index is None:
        primary.operations.drain_all()
        if given["wait"]:
            await _wait_until_alone(primary, asker)
        return _drained(primary)
    with _steps_told(primary, asker):
        _require_done(await primary.operations.drain(index))
    if given["wait"]:
        await _wait_until_idle(primary, index, asker)
    return _drained(primary)


async def _wait_until_idle(primary: Primary, index: int, asker: IAsker) -> None:
    """
    Wait until a drained slot's worker has no connection any more.
    """
    told = -1
    while asker.is_open and index < len(primary.fleet.table.members):
        member = primary.fleet.table.members[index]
        if not member.slot.drained:
            raise OperatorError(f"slot {index} gets clients again")
        load = member.slot.load if member.slot.worker is not None else 0
        if not load:
            return
        if load != told:
            asker.step(
                f"slot {index}: {counted(load, 'connection')} left", slot=index, connections=load
            )
        told = load
        await deferLater(primary.clock, LOOK_SECONDS)


async def _wait_until_alone(primary: Primary, asker: IAsker) -> None:
    """
    Wait until no client is connected any more.
    """
    told = -1
    while asker.is_open:
        if not primary.operations.withdrawal:
            raise OperatorError("it was undrained")
        connections = report_on(primary.fleet).total.connections
        if not connections:
            return
        if connections != told:
            asker.step(f"{counted(connections, 'connection')} left", connections=connections)
        told = connections
        await deferLater(primary.clock, LOOK_SECONDS)


async def undrain(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    Let clients come back.
    """
    _require_running(primary)
    index = given["slot"]
    wanted = _drained(primary)["drained"] if index is None else [index]
    if index is None:
        primary.operations.undrain_all()
    with _steps_told(primary, asker):
        for each in wanted:
            _require_done(await primary.operations.undrain(each))
    return _drained(primary)


def _drained(primary: Primary) -> dict[str, Any]:
    """
    What is kept from clients now: ``drained`` slots, and whether the server is, as ``all``.
    """
    return {
        "drained": [slot.index for slot in primary.fleet.slots if slot.drained],
        "all": bool(primary.operations.withdrawal),
    }


async def kill(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    End a slot's worker by SIGKILL; it gets a successor as after any death.
    """
    index = given["slot"]
    require_slot(primary, index)
    worker = primary.fleet.table.members[index].workers.worker
    if worker is None or not worker.lives:
        raise OperatorError(f"slot {index} has no worker now")
    _log.info(
        "Worker {pid} (slot {slot}) is killed, as an operator says",
        event="kill.ordered",
        pid=worker.pid,
        slot=index,
    )
    os.kill(worker.pid, signal.SIGKILL)
    if given["wait"]:
        asker.step(f"slot {index}: worker {worker.pid} was killed", slot=index, pid=worker.pid)
        while asker.is_open and index < len(primary.fleet.table.members):
            slot = primary.fleet.table.members[index].slot
            if slot.worker is not None and slot.worker is not worker:
                return {"slot": index, "killed": worker.pid, "successor": slot.worker.pid}
            if slot.failed:
                raise OperatorError(f"slot {index} has failed: no successor gets ready")
            await deferLater(primary.clock, LOOK_SECONDS)
    return {"slot": index, "killed": worker.pid}


async def upgrade(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    Replace the primary's own code.  Who asks hears no answer if it is done, as its connection
    ends with the old code: it asks the new one.
    """
    _require_running(primary)
    asker.step("a child tries the new code", run=primary.run)
    raise OperatorError(await primary.upgrade() or "the new code did not begin")


async def stop(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    Stop the server.
    """
    primary.stop()
    if given["wait"]:
        asker.step("the server stops")
        # The end of the process is the answer.
        while asker.is_open:
            await wait_for_departures(primary, asker)
            await deferLater(primary.clock, LOOK_SECONDS)
    return {"stopping": True}


COMMANDS = (
    Command(
        "drain",
        "Keep clients away from a slot: its sessions and idle connections go to the others,"
        " requests under way are finished. With all, the server is not ready (/readyz) until it is"
        " undrained, and serves whoever comes.",
        drain,
        (
            SLOT_OR_ALL,
            Argument("wait", "wait until its worker has no connection any more", WAIT.read,
                flag=True, default=False),
        ),
        changes=True,
    ),
    Command("undrain", "Let clients come back to a drained slot.", undrain, (SLOT_OR_ALL,),
        changes=True),
    Command(
        "reload",
        "Read options and configuration file again, and replace the workers one by one.",
        reload,
        (
            Argument("slots", "only so many slots, or so many of a hundred (25%%): a canary, whose"
                " newcomers get the new code, until go-on or go-back (with --reload-mode client)",
                part, "N|N%%"),
            WAIT,
        ),
        changes=True,
    ),
    Command("go-on", "After reload --slots: replace the other workers too.", go_on, (WAIT,),
        changes=True),
    Command("go-back", "After reload --slots: have the workers that were relieved by it be the"
        " present ones again.", go_back, changes=True),
    Command(
        "resize",
        "Change the number of slots, at the tail.",
        resize,
        (
            Argument("count", "how many slots there shall be", whole(1, MOST_WORKERS), "N",
                positional=True),
            WAIT,
        ),
        changes=True,
    ),
    Command(
        "upgrade",
        "Replace the primary's own code by what is installed now, and then the workers.",
        upgrade,
        (WAIT,),
        changes=True,
    ),
    Command(
        "stop",
        "Stop the server: requests under way may finish.",
        stop,
        (Argument("wait", "wait until it has ended", WAIT.read, flag=True, default=False),),
        changes=True,
    ),
    Command(
        "kill",
        "End a slot's worker at once (SIGKILL); it is replaced as after any death.",
        kill,
        (SLOT, Argument("wait", "wait until its successor serves", WAIT.read, flag=True,
            default=False)),
        changes=True,
    ),
)  # fmt: skip
