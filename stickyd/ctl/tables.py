"""
The tables of ``stickyctl``.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stickyd.operate.counted import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import RenderableType

#: Characters of a line that nobody reads on a screen.
_LONG_LINE = 240

#: Seconds without a heartbeat that mean something; one comes every second.
_LONG_SILENCE_SECONDS = 2.5

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
    console = new_console()
    try:
        console.print(tables_of(command, answer, console.width))
    except BrokenPipeError:
        console.quiet = True


def new_console() -> Console:
    """
    Where tables are written; a file, or another program, has long lines.
    """
    console = Console(highlight=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(highlight=False, width=_LONG_LINE)


def tables_of(command: str, answer: Mapping[str, Any], width: int) -> RenderableType:
    """
    The answer of a command as rich has it.

    :param width: how many characters a line may have.
    """
    return _TABLES[command](answer, width)


def repeat(ask: Callable[[], Mapping[str, Any]], seconds: float) -> None:
    """
    Show the status again and again, in the place of what was shown before, until Ctrl-C.
    """
    console = new_console()
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            live.update(_status(ask(), console.width), refresh=True)
            time.sleep(seconds)


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


def _status(answer: Mapping[str, Any], width: int) -> RenderableType:
    server = answer["server"]
    head = Text()
    head.append(f"stickyd {server['version']}", "bold")
    head.append(f"  pid {server['pid']}  up {span(server['age_seconds'])}  ")
    head.append(f"{' '.join(server['listen'])}  {server['application']}\n")
    ready = server["ready"] and server["serving"] == server["slots"]
    drained = sum(slot["state"] == "draining" for slot in answer["slots"])
    head.append(
        f"{server['state']}: {server['serving']} of {server['slots']} slots serve"
        + (f", {drained} of them drained" if drained else ""),
        "green" if ready else "bold yellow",
    )
    for reason in server["not_ready"]:
        head.append(f"\nnot ready: {reason}", "bold red")
    for name, begun in (("change", "under way for"), ("last_change", "the last change, ended")):
        change = answer[name]
        if change is not None:
            ago = "" if name == "change" else " ago"
            head.append(f"\n{change['what']}: {begun} {span(change['seconds_ago'])}{ago}")
            for problem in change["problems"]:
                head.append(f"\n  {problem}", "bold red")
    parts: list[RenderableType] = [head, Text(), _slots(answer, width)]
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


#: What is left out where a line is too short for all columns, the first of these first.
_DISPENSABLE = ("replays", "most", "cpu", "sessions", "age", "p50", "memory", "queue", "now")


def _slots(answer: Mapping[str, Any], width: int) -> Table:
    """
    A row for each slot, and one of the totals.

    :param width: how many characters a line may have.
    """
    rows: list[dict[str, Text]] = [_slot_cells(slot) for slot in answer["slots"]]
    total = {"slot": Text("all"), **_load_cells(answer["total"])}
    del total["most"]  # the slots' longest queues were not at the same time
    silent = max(map(_silent_seconds, answer["slots"]), default=0.0)
    if silent:
        total["lag"] = _silence(silent)
    rows.append(total)
    columns = list(rows[0]) if len(rows) > 1 else ["slot", *rows[-1]]
    for column in _DISPENSABLE:
        widths = [max(len(c), *(len(row.get(c, Text())) for row in rows)) for c in columns]
        if sum(widths) + 2 * len(widths) <= width:
            break
        columns.remove(column)
    table = new_table(*columns, right=" ".join(c for c in columns if c != "state"))
    for row in rows:
        table.add_row(*(row.get(column, Text()) for column in columns))
    return table


def _slot_cells(slot: Mapping[str, Any]) -> dict[str, Text]:
    serving = next((w for w in slot["workers"] if w["part"] != "leaving"), None)
    age = None if serving is None else serving["age_seconds"]
    cells = {
        "slot": Text(str(slot["slot"])),
        "state": Text(slot["state"], _STYLES.get(slot["state"], "")),
        "worker": Text("-" if serving is None else str(serving["pid"])),
        "age": Text("-" if age is None else span(age)),
        **_load_cells(slot["load"]),
    }
    silent = _silent_seconds(slot)
    if silent:
        cells["lag"] = _silence(silent)
    return cells


def _silent_seconds(slot: Mapping[str, Any]) -> float:
    """
    For how long its worker has said nothing, if that is longer than it was ever late: it is late
    now.  Else 0.
    """
    serving = next((w for w in slot["workers"] if w["part"] != "leaving"), None)
    silent = 0.0 if serving is None else serving["silent_seconds"]
    return silent if silent > max(slot["load"]["lag_seconds"], _LONG_SILENCE_SECONDS) else 0.0


def _silence(seconds: float) -> Text:
    return Text(f"> {short(seconds)}", "bold red")


def _load_cells(load: Mapping[str, Any]) -> dict[str, Text]:
    restarts = " ".join(f"{count} {cause}" for cause, count in load["restarts"].items())
    shown = {
        "conns": str(load["connections"]),
        "req/s": f"{load['requests_per_second']:.1f}",
        "now": str(load["in_flight"]),
        "p50": short(load["p50_seconds"]),
        "p99": short(load["p99_seconds"]),
        "lag": short(load["lag_seconds"]),
        "memory": size(load["memory_bytes"]),
        "cpu": f"{load['cpu_share']:.0%}",
        "sessions": str(load["sessions"]),
        "queue": str(load["queue"]),
        "most": str(load["queue_most"]),
        "replays": str(load["replayed"]),
        "restarts": restarts or "-",
    }
    return {name: Text(cell) for name, cell in shown.items()}


def _leaving(worker: Mapping[str, Any]) -> str:
    seconds = worker["seconds_left"]
    most = "" if seconds is None else f", at most {span(seconds)} more"
    left = counted(worker["connections"], "connection")
    return f"worker {worker['pid']} leaves: {left} left{most}"


def _workers(answer: Mapping[str, Any], width: int) -> RenderableType:
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


def _requests(answer: Mapping[str, Any], width: int) -> RenderableType:
    table = new_table(
        *("slot", "worker", "for", "what", "method", "path", "status", "client"),
        right="slot worker for status",
    )
    for row in answer["requests"]:
        seconds = row.get("seconds")
        table.add_row(
            str(row["slot"]),
            str(row["pid"]),
            "-" if seconds is None else short(seconds) if seconds < 60 else span(seconds),
            *(Text(str(row.get(name, ""))) for name in ("kind", "method", "path")),
            str(row.get("status") or "-"),
            Text(str(row.get("client", ""))),
        )
    return Group(table, *_about(answer, "requests"))


def _clients(answer: Mapping[str, Any], width: int) -> RenderableType:
    table = new_table(
        *("slot", "worker", "client", "key", "conns", "now"), right="slot worker conns now"
    )
    for row in answer["clients"]:
        table.add_row(
            str(row["slot"]),
            str(row["pid"]),
            *(Text(str(row.get(name, ""))) for name in ("client", "key")),
            str(row.get("connections", "")),
            str(row.get("under_way", "")),
        )
    return Group(table, *_about(answer, "clients"))


def _about(answer: Mapping[str, Any], what: str) -> list[Text]:
    """
    What is to be said of workers that did not tell all.
    """
    notes = []
    for worker in answer["workers"]:
        if "problem" in worker:
            notes.append(f"slot {worker['slot']}: {worker['problem']}")
            continue
        told = sum(row["pid"] == worker["pid"] for row in answer[what])
        if told < worker["total"]:
            more = worker["total"] - told
            notes.append(f"slot {worker['slot']}: {more} more of worker {worker['pid']}")
    return [Text(note, "yellow") for note in notes]


def _config(answer: Mapping[str, Any], width: int) -> RenderableType:
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


_TABLES: Mapping[str, Callable[[Mapping[str, Any], int], RenderableType]] = {
    "status": _status,
    "workers": _workers,
    "requests": _requests,
    "clients": _clients,
    "config": _config,
}
