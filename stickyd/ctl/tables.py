"""
The tables of ``stickyctl``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

#: The colour of a state.
_STYLES = {
    "serving": "green",
    "starting": "yellow",
    "restarting": "yellow",
    "successor": "yellow",
    "leaving": "yellow",
    "draining": "cyan",
    "failed": "bold red",
    "stopping": "yellow",
}


def show(command: str, answer: Mapping[str, Any]) -> None:
    """
    Write the answer of a command as a table.
    """
    console = Console(highlight=False, soft_wrap=False)
    try:
        console.print(tables_of(command, answer))
    except BrokenPipeError:
        console.quiet = True


def tables_of(command: str, answer: Mapping[str, Any]) -> RenderableType:
    """
    The answer of a command as rich has it.
    """
    return {"status": _status, "workers": _workers, "config": _config}[command](answer)


def new_table(*columns: str, right: str = "") -> Table:
    """
    A plain table.

    :param right: the columns of numbers, which end at the right, by their names and blanks.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = right.split()
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    return table


def _status(answer: Mapping[str, Any]) -> RenderableType:
    server = answer["server"]
    head = Text()
    head.append(f"stickyd {server['version']}", "bold")
    head.append(f"  pid {server['pid']}  up {span(server['age_seconds'])}  ")
    head.append(f"{' '.join(server['listen'])}  {server['application']}\n")
    ready = server["serving"] == server["slots"] and server["state"] == "running"
    head.append(
        f"{server['state']}: {server['serving']} of {server['slots']} slots serve",
        "green" if ready else "bold yellow",
    )
    for name, begun in (("change", "under way for"), ("last_change", "the last change, ended")):
        change = answer[name]
        if change is not None:
            ago = "" if name == "change" else " ago"
            head.append(f"\n{change['what']}: {begun} {span(change['seconds_ago'])}{ago}")
            for problem in change["problems"]:
                head.append(f"\n  {problem}", "bold red")
    parts: list[RenderableType] = [head, Text(), _slots(answer)]
    notes = Text()
    for slot in answer["slots"]:
        death = slot["last_death"]
        if death is not None:
            notes.append(f"\nslot {slot['slot']}: worker {death['pid']} {death['cause']}", "red")
            if death["last_words"]:
                notes.append(f": {death['last_words']}")
        for worker in slot["workers"]:
            if worker["part"] == "leaving":
                notes.append(f"\nslot {slot['slot']}: {_leaving(worker)}", "yellow")
    for reason, count in answer["refused"].items():
        notes.append(f"\n{count} connections refused: {reason}", "red")
    if notes:
        parts.append(notes)
    return Group(*parts)


def _slots(answer: Mapping[str, Any]) -> Table:
    """
    A row for each slot, and one of the totals.
    """
    table = new_table(
        *("slot", "state", "worker", "age", "conns", "req/s", "now", "p50", "p99", "lag"),
        *("memory", "cpu", "sessions", "queue", "most", "replays", "restarts"),
        right="slot worker age conns req/s now p50 p99 lag memory cpu sessions queue most replays",
    )
    for slot in answer["slots"]:
        serving = next((w for w in slot["workers"] if w["part"] != "leaving"), None)
        age = None if serving is None else serving["age_seconds"]
        table.add_row(
            str(slot["slot"]),
            Text(slot["state"], _STYLES.get(slot["state"], "")),
            "-" if serving is None else str(serving["pid"]),
            "-" if age is None else span(age),
            *_load_cells(slot["load"]),
        )
    table.add_row("all", "", "", "", *_load_cells(answer["total"]), style="bold")
    return table


def _load_cells(load: Mapping[str, Any]) -> list[str]:
    restarts = " ".join(f"{count} {cause}" for cause, count in load["restarts"].items())
    return [
        str(load["connections"]),
        f"{load['requests_per_second']:.1f}",
        str(load["in_flight"]),
        short(load["p50_seconds"]),
        short(load["p99_seconds"]),
        short(load["lag_seconds"]),
        size(load["memory_bytes"]),
        f"{load['cpu_share']:.0%}",
        str(load["sessions"]),
        str(load["queue"]),
        str(load["queue_most"]),
        str(load["replayed"]),
        restarts or "-",
    ]


def _leaving(worker: Mapping[str, Any]) -> str:
    left = worker["seconds_left"]
    most = "" if left is None else f", at most {span(left)} more"
    return f"worker {worker['pid']} leaves: {worker['connections']} connections left{most}"


def _workers(answer: Mapping[str, Any]) -> RenderableType:
    table = new_table(
        *("slot", "part", "worker", "age", "conns", "requests", "now", "lag", "memory", "cpu"),
        *("sessions", "files", "left"),
        right="slot worker age conns requests now lag memory cpu sessions files left",
    )
    for worker in answer["workers"]:
        age, left = worker["age_seconds"], worker["seconds_left"]
        table.add_row(
            str(worker["slot"]),
            Text(worker["part"], _STYLES.get(worker["part"], "")),
            str(worker["pid"]),
            "-" if age is None else span(age),
            str(worker["connections"]),
            str(worker["requests"]),
            str(worker["in_flight"]),
            short(worker["lag_seconds"]),
            size(worker["memory_bytes"]),
            span(worker["cpu_seconds"]),
            str(worker["sessions"]),
            str(worker["descriptors"]),
            "" if left is None else span(left),
        )
    return table


def _config(answer: Mapping[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", overflow="fold")
    table.add_column("changes by", no_wrap=True)
    for setting in answer["settings"]:
        value = setting["value"]
        shown = " ".join(value) if isinstance(value, list) else str(value)
        if "slots" in setting:
            shown = f"{shown or 'auto'} ({setting['slots']} slots now)"
        style = "dim" if setting["default"] else ""
        table.add_row(
            Text(setting["name"], style),
            Text(shown, style),
            Text(setting["origin"], style),
            Text(setting["changes_by"], style),
        )
    return table


def short(seconds: float | None) -> str:
    """
    A short time for people: ``1.2ms``, ``340ms``, ``2.5s``.
    """
    if seconds is None:
        return "-"
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f}ms"
    return f"{seconds * 1e3:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"


def span(seconds: float) -> str:
    """
    A time for people: ``12s``, ``3m05s``, ``2h10m``, ``4d03h``.
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def size(count: float) -> str:
    """
    Bytes for people.
    """
    return f"{count / 2**20:.0f}M" if count < 2**30 else f"{count / 2**30:.1f}G"
