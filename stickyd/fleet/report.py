"""
How the fleet is at the moment, and what it has done: for whoever shows it to operators.

``stickyctl``, metrics, readiness and the dashboard all show :func:`report_on`, so they agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stickyd.figures.fleet_figures import PEEKED, REFUSED
from stickyd.figures.histogram import quantile
from stickyd.figures.page import CPU_NS, HANDOFF, KERNEL, REHOMED, TOKENS_REFUSED
from stickyd.figures.slot_figures import answered, by_class, percentiles
from stickyd.fleet.fleet_view import occupant_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stickyd.figures.slot_figures import SlotFigures
    from stickyd.fleet.fleet import Fleet
    from stickyd.fleet.interfaces import IWorker
    from stickyd.fleet.keepers import Keepers
    from stickyd.fleet.member import Member

RECENT_SECONDS = 10.0
"""
What rates and percentiles are of.
"""

SKEW_SECONDS = 60.0
"""
What the skew is of; and fewer requests than :data:`ENOUGH` in that time have none.
"""

ENOUGH = 100


@dataclass(frozen=True)
class WorkerReport:
    """
    One worker.

    :ivar pid: its process id; 0 if it has none yet.
    :ivar part: ``serving``, ``starting`` (the slot has no other), ``successor`` (it will relieve
        the one that serves) or ``leaving`` (relieved, it finishes what it has).
    :ivar age_seconds: since it became ready; None before, and if it is not known.
    :ivar connections: those that are open, as of its last heartbeat, and those on their way.
    :ivar requests: how many it has answered.
    :ivar in_flight: requests under way.
    :ivar memory_bytes: resident memory.
    :ivar private_bytes: what of it no other process has.
    :ivar cpu_seconds: CPU time so far.
    :ivar lag_seconds: how late its reactor was at most before its last heartbeat.
    :ivar sessions: how many it has at hand.
    :ivar descriptors: how many are open.
    :ivar generation: its generation, and what that is called.
    :ivar generation_name: empty if it has no name.
    """

    pid: int
    part: str
    age_seconds: float | None
    connections: int
    requests: int
    in_flight: int
    memory_bytes: int
    private_bytes: int
    cpu_seconds: float
    lag_seconds: float
    sessions: int
    descriptors: int
    generation: int
    generation_name: str


@dataclass(frozen=True)
class KeptReport:
    """
    The clients that workers keep which a newcomer in their place would not find.

    :ivar relieved: how many relieved workers keep clients.
    :ivar memory_bytes: resident, of these.
    :ivar known: how many clients the primary remembers by a key or an id.
    :ivar cut: how many it had no room for.
    """

    relieved: int
    memory_bytes: int
    known: int
    cut: int


@dataclass(frozen=True)
class Load:
    """
    What is summed up for each slot, and for all of them.

    Rates and percentiles are of the last :data:`RECENT_SECONDS`, or of a shorter time at the
    beginning; the rest is of now, or since the server was started.

    :ivar connections: open now.
    :ivar in_flight: requests under way.
    :ivar requests_per_second: answered.
    :ivar connections_per_second: taken from clients.
    :ivar p50_seconds: half of the requests took less; None if there were none.
    :ivar p99_seconds: 99 of 100 took less.
    :ivar cpu_share: how much of one CPU the workers take.
    :ivar memory_bytes: resident, of all workers.
    :ivar sessions: at hand.
    :ivar lag_seconds: of the worker whose reactor was latest.
    :ivar queue: connections that wait.
    :ivar queue_most: how many have waited at once at most.
    :ivar wait_p99_seconds: how long 99 of 100 of those that ever waited did at most; None if
        none did.
    :ivar replayed: connections that a dead worker had not acknowledged.
    :ivar nacks: connections for which a worker had no descriptor free.
    :ivar requests: answered, by class of status, see :data:`stickyd.figures.page.CLASSES`.
    :ivar ways: connections by the way that they came: ``handoff``, ``kernel``, ``rehomed``.
    :ivar tokens_refused: tokens that were not signed by us.
    :ivar restarts: of workers, by cause; see
        :attr:`stickyd.figures.slot_figures.SlotFigures.restarts`.
    """

    connections: int
    in_flight: int
    requests_per_second: float
    connections_per_second: float
    p50_seconds: float | None
    p99_seconds: float | None
    cpu_share: float
    memory_bytes: int
    sessions: int
    lag_seconds: float
    queue: int
    queue_most: int
    wait_p99_seconds: float | None
    replayed: int
    nacks: int
    requests: dict[str, int]
    ways: dict[str, int]
    tokens_refused: int
    restarts: dict[str, int]


@dataclass(frozen=True)
class SlotReport:
    """
    One slot.

    :ivar index: its number.
    :ivar state: see :class:`stickyd.explain.Occupant`.
    :ivar load: what it does.
    :ivar workers: the one that serves first.
    """

    index: int
    state: str
    load: Load
    workers: Sequence[WorkerReport] = field(default_factory=tuple)


@dataclass(frozen=True)
class FleetReport:
    """
    All slots.

    :ivar slots: those that there are, by index; at the end those that a resize took away and
        whose workers have not ended.
    :ivar total: of all slots that there have ever been.
    :ivar skew: how many times as many requests as the mean the busiest slot had lately; None if
        there were too few to say.
    :ivar refused: connections that no worker got, by reason.
    :ivar peeked: what became of connections whose first bytes did not simply say where they
        belong, by outcome.
    :ivar kept: clients that workers keep.
    """

    slots: Sequence[SlotReport]
    total: Load
    skew: float | None
    refused: dict[str, int]
    peeked: dict[str, int]
    kept: KeptReport


def report_on(fleet: Fleet) -> FleetReport:
    """
    Say how the fleet is now.  The figures of every worker are read for it, so that what has been
    answered is in it.
    """
    now = fleet.clock.seconds()
    for worker in fleet.table.workers():
        worker.count()
    slots = [_slot_report(member, now) for member in fleet.table.all_members()]
    figures = fleet.table.figures
    return FleetReport(
        slots,
        _load(list(figures.slots()), list(fleet.table.all_members()), now),
        _skew([member.slot.figures for member in fleet.table.members], now),
        dict(figures.counter(REFUSED)),
        dict(figures.counter(PEEKED)),
        _kept_report(fleet.table.keepers),
    )


def _slot_report(member: Member, now: float) -> SlotReport:
    workers = [_worker_report(worker, member, now) for worker in member.all_workers()]
    return SlotReport(
        member.slot.index,
        occupant_of(member).state,
        _load([member.slot.figures], [member], now),
        tuple(workers),
    )


def _worker_report(worker: IWorker, member: Member, now: float) -> WorkerReport:
    workers, figures, told = member.workers, worker.figures, worker.figures.told
    if worker in workers.leaving:
        part = "leaving"
    elif worker is workers.successor:
        part = "successor"
    elif worker is member.slot.worker or figures.ready_at:
        part = "serving"
    else:
        part = "starting"
    return WorkerReport(
        pid=worker.pid,
        part=part,
        age_seconds=now - figures.ready_at if figures.ready_at else None,
        connections=_connections(worker),
        requests=answered(figures.numbers),
        in_flight=figures.in_flight,
        memory_bytes=int(told.get("memory", 0)),
        private_bytes=int(told.get("private", 0)),
        cpu_seconds=figures.numbers[CPU_NS] / 1e9,
        lag_seconds=told.get("lag", 0.0),
        sessions=int(told.get("sessions", 0)),
        descriptors=int(told.get("descriptors", 0)),
        generation=worker.generation,
        generation_name=worker.generation_name,
    )


def _connections(worker: IWorker) -> int:
    """
    How many it has, those on their way to it among them.
    """
    counted = worker.figures.connections
    return worker.load if counted is None else counted + len(worker.in_flight)


def _kept_report(keepers: Keepers) -> KeptReport:
    relieved = [keeper.worker for keeper in keepers if keeper.is_relieved]
    memory = int(sum(worker.memory for worker in relieved))
    return KeptReport(len(relieved), memory, len(keepers), keepers.cut)


def _load(slots: Sequence[SlotFigures], members: Sequence[Member], now: float) -> Load:
    """
    :param slots: what is added up.
    :param members: those of them that there are.
    """
    recent = [each.recent(now, RECENT_SECONDS) for each in slots]
    seconds = max(seconds for seconds, _ in recent) if recent else 0.0
    grown = [sum(column) for column in zip(*(more for _, more in recent), strict=True)]
    numbers = [sum(column) for column in zip(*(each.numbers for each in slots), strict=True)]
    workers = [worker for member in members for worker in member.all_workers()]
    told = [worker.figures.told for worker in workers]
    per_second = 1.0 / seconds if seconds else 0.0
    p50, p99 = percentiles(grown, (0.5, 0.99))
    waits = [sum(column) for column in zip(*(each.waits for each in slots), strict=True)]
    restarts: dict[str, int] = {}
    for each in slots:
        for cause, count in each.restarts.items():
            restarts[cause] = restarts.get(cause, 0) + count
    return Load(
        connections=sum(map(_connections, workers)),
        in_flight=sum(worker.figures.in_flight for worker in workers),
        requests_per_second=answered(grown) * per_second,
        connections_per_second=(grown[HANDOFF] + grown[KERNEL]) * per_second,
        p50_seconds=p50,
        p99_seconds=p99,
        cpu_share=grown[CPU_NS] / 1e9 * per_second,
        memory_bytes=int(sum(each.get("memory", 0) for each in told)),
        sessions=int(sum(each.get("sessions", 0) for each in told)),
        lag_seconds=max((each.get("lag", 0.0) for each in told), default=0.0),
        queue=sum(len(member.slot.queue) for member in members),
        queue_most=max((each.queued_most for each in slots), default=0),
        wait_p99_seconds=quantile(waits, 0.99),
        replayed=sum(each.replayed for each in slots),
        nacks=sum(each.nacks for each in slots),
        requests=by_class(numbers),
        ways={
            "handoff": numbers[HANDOFF],
            "kernel": numbers[KERNEL],
            "rehomed": numbers[REHOMED],
        },
        tokens_refused=numbers[TOKENS_REFUSED],
        restarts=restarts,
    )


def _skew(slots: Sequence[SlotFigures], now: float) -> float | None:
    counts = [answered(each.recent(now, SKEW_SECONDS)[1]) for each in slots]
    total = sum(counts)
    return max(counts) * len(counts) / total if total >= ENOUGH else None
