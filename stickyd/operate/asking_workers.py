"""
The commands that ask a worker what it is doing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from typing_extensions import override

from stickyd.control.commands import stacks_address
from stickyd.control.figures import read_json
from stickyd.errors import ControlError, OperatorError, WorkerError
from stickyd.net.peer_process import peer_of
from stickyd.operate.command import ALL, SLOT, Argument, Command, IAsker, require_slot, slot_or_all

if TYPE_CHECKING:
    from stickyd.fleet.interfaces import IWorker
    from stickyd.operate.primary import Primary

#: Seconds that a worker may take to answer: one whose event loop is free does so at once.
ANSWER_SECONDS = 2.0

#: Of stacks.
LONGEST_ANSWER_BYTES = 4 * 1024 * 1024

#: Seconds in which the lines of stacks come that a worker was made to write by a signal.
DUMP_SECONDS = 0.5

_MOST_ROWS = 1000
_LONGEST_TEXT = 400


def _workers_of(primary: Primary, index: int | None) -> list[tuple[int, str, IWorker]]:
    """
    The workers of a slot, or of all, that serve or finish what they have.

    :return: slot, part and worker of each.
    :raises OperatorError: if there is no such slot, or it has no worker.
    """
    members = primary.fleet.table.members
    if index is not None:
        require_slot(primary, index)
    found = []
    for member in members if index is None else [members[index]]:
        workers = member.workers
        if workers.worker is not None and workers.worker.figures.ready_at:
            found.append((member.slot.index, "serving", workers.worker))
        found += [(member.slot.index, "leaving", worker) for worker in workers.leaving]
    if index is not None and not found:
        raise OperatorError(f"slot {index} has no worker that serves")
    return found


async def _rows(
    primary: Primary, index: int | None, what: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """
    Ask workers.

    :return: their rows, each with the slot and the pid; and what is to be said of each worker.
    """
    asked = _workers_of(primary, index)
    answers = [_answer_of(primary, slot, worker, what) for slot, _, worker in asked]
    rows: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    stuck = []
    for (slot, part, worker), waiting in zip(asked, answers, strict=True):
        about = {"slot": slot, "pid": worker.pid}
        try:
            found, total = _read(await waiting)
        except (WorkerError, ControlError) as problem:
            told.append({**about, "part": part, "problem": str(problem)})
            asking = ensureDeferred(_rows_of_thread(primary, worker.pid, what))
            stuck.append((about, asking))
        else:
            rows += [{**about, **row} for row in found]
            told.append({**about, "part": part, "total": total})
    for about, asking in stuck:
        rows += [{**about, **row} for row in await asking]
    return rows, told


def _answer_of(primary: Primary, slot: int, worker: IWorker, what: str) -> Deferred[str]:
    answer = worker.look(what)

    def failed(failure: Failure) -> Any:
        if failure.check(WorkerError) is not None:
            return failure
        problem = f"worker {worker.pid} has ended"
        if failure.check(CancelledError) is not None:
            problem = (
                f"worker {worker.pid} does not answer within {ANSWER_SECONDS:g} s: its event loop"
                f" is stuck; stickyctl stacks {slot} says where"
            )
        return Failure(WorkerError(problem))

    # Not cancelled: a late answer must find somebody who has asked.
    waiting: Deferred[str] = Deferred()
    answer.addBoth(lambda told: None if waiting.called else waiting.callback(told))
    waiting.addTimeout(ANSWER_SECONDS, primary.clock, lambda *_: Failure(CancelledError()))
    return waiting.addErrback(failed)


def _read(text: str) -> tuple[list[dict[str, Any]], int]:
    """
    Check what a worker says.

    :raises ControlError: if it is not rows of numbers and short texts.
    """
    return _checked(read_json(text, "rows"))


def _checked(told: object) -> tuple[list[dict[str, Any]], int]:
    rows = told.get("rows") if isinstance(told, dict) else None
    if not isinstance(rows, list) or len(rows) > _MOST_ROWS:
        raise ControlError("its answer is not what a worker says")
    for row in rows:
        if not isinstance(row, dict) or len(row) > 16 or not all(map(_is_told, row.values())):
            raise ControlError("its answer has a row that no worker says")
    total = told.get("total") if isinstance(told, dict) else 0
    return rows, total if isinstance(total, int) else len(rows)


async def _rows_of_thread(primary: Primary, pid: int, what: str) -> list[dict[str, Any]]:
    """
    Have a worker's thread tell the rows that its event loop has not told.

    :return: none if there is none, or it tells anything else.
    """
    told = await _ask_thread(primary, pid)
    try:
        return _checked((told or {}).get(what))[0]
    except ControlError:
        return []


def _is_told(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT and value.isprintable()
    return value is None or isinstance(value, (int, float))


async def requests(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    What each worker serves now, the longest first.
    """
    rows, told = await _rows(primary, given["slot"], "requests")
    rows.sort(key=lambda row: -(row.get("seconds") or 0.0))
    return {"requests": rows, "workers": told}


async def clients(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    The clients of a slot that have most connections.
    """
    rows, told = await _rows(primary, given["slot"], "clients")
    rows.sort(key=lambda row: -(row.get("connections") or 0))
    return {"clients": rows, "workers": told}


class _Reading(Protocol):
    """
    Reads what a worker's thread tells, to its end.
    """

    def __init__(self, told: Deferred[bytes], pid: int) -> None:
        """
        :param pid: whose answer alone counts.
        """
        self._told = told
        self._pid = pid
        self._read = b""

    @override
    def connectionMade(self) -> None:
        transport: Any = self.transport
        if peer_of(transport.getHandle()).pid != self._pid:
            transport.abortConnection()

    @override
    def dataReceived(self, data: bytes) -> None:
        self._read += data
        if len(self._read) > LONGEST_ANSWER_BYTES:
            transport: Any = self.transport
            transport.abortConnection()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._told.called:
            self._told.callback(self._read)


async def _ask_thread(primary: Primary, pid: int) -> dict[str, Any] | None:
    """
    Have a worker's thread tell the stacks.

    :return: None if none does.
    """
    told: Deferred[bytes] = Deferred()
    reading = _Reading(told, pid)
    factory: Any = Factory.forProtocol(lambda: reading)
    factory.noisy = False
    endpoint = UNIXClientEndpoint(primary.clock, stacks_address(pid), ANSWER_SECONDS)
    connecting = endpoint.connect(factory)
    connecting.addErrback(lambda _: None if told.called else told.callback(b""))
    told.addTimeout(ANSWER_SECONDS, primary.clock, lambda *_: b"")
    read = await told
    if reading.transport is not None:
        transport: Any = reading.transport
        transport.abortConnection()
    try:
        answer = json.loads(read)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


async def stacks(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    What every thread and every asyncio task of a slot's worker is doing.
    """
    slot, _, worker = _workers_of(primary, given["slot"])[0]
    told = await _ask_thread(primary, worker.pid)
    if told is not None:
        parts = {name: told.get(name) for name in ("threads", "tasks", "task_count")}
        return {"slot": slot, "pid": worker.pid, "by": "thread", **parts}
    # Its interpreter is held by what is no Python: faulthandler needs none.
    lines: list[str] = []
    stop = worker.dump_stacks(lines.append)
    await deferLater(primary.clock, DUMP_SECONDS)
    stop()
    if not lines:
        raise OperatorError(f"worker {worker.pid} does not even heed a signal")
    return {"slot": slot, "pid": worker.pid, "by": "signal", "lines": lines}


SLOT_IF_ANY = Argument(
    "slot", f"the number of the slot; {ALL} by default", slot_or_all, "SLOT", optional=True
)

COMMANDS = (
    Command(
        "requests",
        "What each worker is serving now, and for how long: requests, WebSockets, connections.",
        requests,
        (SLOT_IF_ANY,),
    ),
    Command(
        "stacks",
        "What every thread and asyncio task of a slot's worker is doing, also when it is stuck.",
        stacks,
        (SLOT,),
    ),
    Command(
        "clients",
        "The clients of a slot that have most connections: address, digest of the affinity key.",
        clients,
        (SLOT_IF_ANY,),
    ),
)
