"""
What a primary is doing, as JSON can carry it.

The figures are those of :func:`stickyd.fleet.report.report_on`, as metrics and the dashboard show
them.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from math import inf
from typing import TYPE_CHECKING, Any

from stickyd import __version__
from stickyd.fleet.report import report_on

if TYPE_CHECKING:
    from stickyd.fleet.interfaces import IWorker
    from stickyd.fleet.member import Member
    from stickyd.fleet.report import SlotReport
    from stickyd.fleet.steps import Change
    from stickyd.operate.primary import Primary


def status_of(primary: Primary) -> dict[str, Any]:
    """
    All of it: the server, its slots, totals, and the change that goes on or was the last.
    """
    report = report_on(primary.fleet)
    members = list(primary.fleet.table.all_members())
    steps = primary.operations.steps
    return {
        "server": server_status(primary),
        "slots": [
            _slot(primary, slot, member) for slot, member in zip(report.slots, members, strict=True)
        ],
        "total": asdict(report.total),
        "skew": report.skew,
        "refused": report.refused,
        "canary": _canary(primary),
        "change": _change(primary, steps.under_way),
        "last_change": _change(primary, steps.last),
    }


def server_status(primary: Primary) -> dict[str, Any]:
    """
    The primary itself.
    """
    fleet, health = primary.fleet, primary.health()
    serving = sum(member.slot.worker is not None for member in fleet.table.members)
    return {
        "version": __version__,
        "pid": os.getpid(),
        "run": primary.run,
        "state": "running" if fleet.running else "stopping",
        "age_seconds": round(primary.clock.seconds() - primary.began_at, 3),
        "application": _application(primary),
        "listen": primary.listens_on(),
        "ready": health.ready,
        "not_ready": [check.says for check in health.checks if not check.passes],
        "slots": fleet.table.placed,
        "serving": serving,
        "available": len(fleet.table.available_slots()),
    }


def _application(primary: Primary) -> str:
    named = primary.operations.settings.application
    return "the demonstration" if named is None else f"--{named[0]} {named[1]}"


def _slot(primary: Primary, report: SlotReport, member: Member) -> dict[str, Any]:
    death = member.workers.last_death
    told = asdict(report)
    return {
        "slot": told.pop("index"),
        **told,
        "workers": workers_of(primary, report, member),
        "available": member.slot.available,
        "last_death": None if death is None else _death(*death),
    }


def workers_of(primary: Primary, report: SlotReport, member: Member) -> list[dict[str, Any]]:
    """
    The workers of a slot: the one that serves first.

    Each is a :class:`stickyd.fleet.report.WorkerReport`, whether it keeps its
    clients though newcomers go elsewhere, how long it may take to finish, and for how long it has
    sent no heartbeat.
    """
    workers = {worker.pid: worker for worker in member.all_workers()}
    leaving = {worker.pid for worker in member.workers.leaving}
    told = []
    for each in report.workers:
        worker = workers[each.pid]
        keeper = primary.fleet.table.keepers.of(worker)
        left = worker.seconds_left if each.pid in leaving else None
        if keeper is not None and keeper.until != inf:
            left = round(keeper.until - primary.clock.seconds(), 3)
        told.append(
            {
                **asdict(each),
                "keeps": keeper is not None,
                "silent_seconds": round(worker.silent_seconds, 3),
                "seconds_left": left,
            }
        )
    return told


def _canary(primary: Primary) -> dict[str, Any] | None:
    canary = primary.operations.canary
    if canary is None:
        return None
    return {"slots": list(canary.slots), "generation": canary.generation}


def _death(worker: IWorker, cause: str) -> dict[str, Any]:
    return {"pid": worker.pid, "cause": cause, "last_words": worker.last_words}


def _change(primary: Primary, change: Change | None) -> dict[str, Any] | None:
    if change is None:
        return None
    ago = round(primary.clock.seconds() - change.at, 3)
    return {"what": change.what, "seconds_ago": ago, "problems": list(change.problems)}
