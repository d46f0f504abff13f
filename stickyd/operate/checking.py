"""
Whether a server is as it should be, and what to do where it is not: ``stickyctl check``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.fleet.report import report_on
from stickyd.operate.command import Command, IAsker
from stickyd.system.host_check import Host, findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stickyd.fleet.member import Member
    from stickyd.fleet.report import FleetReport
    from stickyd.operate.primary import Primary

#: Seconds without a heartbeat after which a worker is looked into; one is due every
#: ``--heartbeat`` seconds.
LONG_BEATS = 3.0

#: How many times the mean a slot may have before it is worth a look.
MUCH_SKEW = 2.0


def _finding(level: str, text: str, advice: str, slot: int | None = None) -> dict[str, Any]:
    return {"level": level, "text": text, "advice": advice, "slot": slot}


async def check(primary: Primary, given: dict[str, Any], asker: IAsker) -> dict[str, Any]:
    """
    Look at everything that an operator should know, and say whether it is as it should be.
    """
    report = report_on(primary.fleet)
    findings = [
        *_of_server(primary),
        *(f for member in primary.fleet.table.members for f in _of_slot(primary, member)),
        *_of_figures(report),
        *_of_settings(primary),
    ]
    serving = sum(member.slot.worker is not None for member in primary.fleet.table.members)
    return {
        "ok": not any(finding["level"] in ("error", "warning") for finding in findings),
        "serving": serving,
        "slots": primary.fleet.table.placed,
        "findings": findings,
    }


def _of_server(primary: Primary) -> Iterator[dict[str, Any]]:
    steps = primary.operations.steps
    for failing in (each for each in primary.health().checks if not each.passes):
        advice = "stickyctl undrain all" if primary.operations.withdrawal else ""
        yield _finding("warning", f"not ready: {failing.says}", advice)
    if steps.under_way is not None:
        yield _finding("note", f"a change is under way: {steps.under_way.what}", "")
    if steps.last is not None:
        for problem in steps.last.problems:
            yield _finding(
                "warning",
                f"the last change ({steps.last.what}) was not done: {problem}",
                "mend that, and order it again",
            )


def _of_slot(primary: Primary, member: Member) -> Iterator[dict[str, Any]]:
    slot, workers = member.slot, member.workers
    words = ""
    if workers.last_death is not None:
        worker, cause = workers.last_death
        words = f"; its last worker {cause}" + (worker.last_words and f": {worker.last_words}")
    if slot.failed:
        yield _finding(
            *("error", f"slot {slot.index} has failed{words}"),
            "mend the application, then: stickyctl reload",
            slot.index,
        )
    elif slot.worker is None and primary.fleet.running:
        yield _finding(
            *("warning", f"slot {slot.index} has no worker that serves{words}"),
            f"stickyctl events --slot {slot.index}",
            slot.index,
        )
    if slot.drained:
        text = f"slot {slot.index} is drained"
        yield _finding("note", text, f"stickyctl undrain {slot.index}", slot.index)
    silent = 0.0 if slot.worker is None else slot.worker.silent_seconds
    too_long = LONG_BEATS * primary.operations.settings.heartbeat
    if slot.worker is not None and silent > too_long:
        yield _finding(
            *("error", f"worker {slot.worker.pid} has sent no heartbeat for {silent:.0f} s"),
            f"stickyctl stacks {slot.index}",
            slot.index,
        )
    elif slot.worker is not None and (late := slot.worker.figures.told.get("lag", 0.0)) > too_long:
        yield _finding(
            *("warning", f"the event loop of worker {slot.worker.pid} was {late:.1f} s late"),
            f"stickyctl stacks {slot.index}",
            slot.index,
        )


def _of_figures(report: FleetReport) -> Iterator[dict[str, Any]]:
    for reason, count in report.refused.items():
        text = f"{count} connections refused since the start: {reason}"
        yield _finding("note", text, "docs/operating.md says what each means")
    if report.skew is not None and report.skew > MUCH_SKEW:
        busiest = max(report.slots, key=lambda slot: slot.load.requests_per_second)
        yield _finding(
            *("note", f"slot {busiest.index} has {report.skew:.1f} times the mean of requests"),
            f"stickyctl clients {busiest.index}",
        )


def _of_settings(primary: Primary) -> Iterator[dict[str, Any]]:
    settings = primary.operations.settings
    for warning in settings.keys.warnings:
        yield _finding("warning", warning, "")
    for text in findings(settings, Host.here()):
        yield _finding("note", text, "")


COMMANDS = (
    Command(
        "check",
        "Whether the server is as it should be, and what to do if not; the exit code says it too.",
        check,
    ),
)
