"""
The tables of ``stickyctl``, on wide screens and narrow ones.
"""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from stickyd.ctl.tables import repeat, short, size, span, tables_of

LOAD: dict[str, Any] = {
    "connections": 61,
    "in_flight": 2,
    "requests_per_second": 71.3,
    "p50_seconds": 0.0025,
    "p99_seconds": 0.25,
    "cpu_share": 0.12,
    "memory_bytes": 123 * 2**20,
    "sessions": 540,
    "lag_seconds": 0.0004,
    "queue": 0,
    "queue_most": 9,
    "replayed": 2,
    "restarts": {"reload": 1},
}


def worker(**more: object) -> dict[str, Any]:
    """
    A worker as ``status`` tells of it.
    """
    return {
        "pid": 4301,
        "part": "serving",
        "age_seconds": 260.0,
        "silent_seconds": 0.4,
        "seconds_left": None,
        "connections": 61,
        **more,
    }


def status(*slots: dict[str, Any]) -> dict[str, Any]:
    """
    An answer of the server.
    """
    return {
        "server": {
            "version": "1",
            "pid": 7,
            "age_seconds": 5.0,
            "listen": ["tcp:3000"],
            "application": "--asgi shop:app",
            "state": "running",
            "ready": True,
            "not_ready": [],
            "serving": len(slots),
            "slots": len(slots),
        },
        "slots": list(slots),
        "total": LOAD,
        "refused": {"the server stops": 3},
        "change": None,
        "last_change": {"what": "reload", "seconds_ago": 65.0, "problems": ["slot 1: no"]},
    }


def slot(index: int, *workers: dict[str, Any], state: str = "serving") -> dict[str, Any]:
    """
    One slot.
    """
    death = {"pid": 9, "cause": "died of signal 9 (SIGKILL)", "last_words": "[bold]x"}
    return {
        "slot": index,
        "state": state,
        "workers": list(workers),
        "load": LOAD,
        "last_death": death if index else None,
    }


def shown(width: int, answer: dict[str, Any]) -> list[str]:
    """
    The lines of ``status``.
    """
    console = Console(file=StringIO(), width=width)
    console.print(tables_of("status", answer, width))
    file: Any = console.file
    lines: list[str] = file.getvalue().splitlines()
    return lines


def test_status_is_one_screen() -> None:
    """
    A row for each slot and one of the totals; below it what was wrong.
    """
    leaving = worker(pid=4290, part="leaving", connections=3, seconds_left=280.0)
    lines = shown(160, status(slot(0, worker()), slot(1, worker(pid=4305), leaving)))
    assert lines[1:4] == [
        "running: 2 of 2 slots serve",
        "reload: the last change, ended 1m05s ago",
        "  slot 1: no",
    ]
    head = next(line for line in lines if line.startswith("slot")).split()
    cells = dict(zip(head, next(line for line in lines if " 4301 " in line).split(), strict=False))
    assert cells["req/s"] == "71.3"
    assert (cells["p50"], cells["p99"], cells["lag"]) == ("2.5ms", "250ms", "0.4ms")
    assert (cells["age"], cells["memory"], cells["cpu"]) == ("4m20s", "123M", "12%")
    # What an application has written is no markup.
    assert "slot 1: worker 9 died of signal 9 (SIGKILL): [bold]x" in lines
    assert "slot 1: worker 4290 leaves: 3 connections left, at most 4m40s more" in lines
    assert lines[-1] == "3 connections refused: the server stops"


@pytest.mark.parametrize("width", [60, 80, 100, 130])
def test_narrow_screens_have_fewer_columns_and_whole_ones(width: int) -> None:
    """
    What is less important is left out; nothing is cut.
    """
    lines = shown(width, status(slot(0, worker()), slot(1, state="failed")))
    rows = [line for line in lines if line.lstrip().startswith(("slot  ", "0 ", "1 ", "all"))]
    assert all("…" not in row for row in rows), rows
    assert {"slot", "state", "worker", "conns", "lag", "restarts"} <= set(rows[0].split())


def test_a_silent_worker_is_late() -> None:
    """
    Who sends no heartbeats cannot say how late it is.
    """
    lines = shown(160, status(slot(0, worker()), slot(1, worker(silent_seconds=7.0))))
    rows = [line for line in lines if "2.5ms" in line]
    assert ["> 7.0s" in row for row in rows] == [False, True, True]


def test_a_drained_slot_is_told_of() -> None:
    """
    It serves, and gets nobody.
    """
    lines = shown(160, status(slot(0, worker()), slot(1, worker(), state="draining")))
    assert lines[1] == "running: 2 of 2 slots serve, 1 of them drained"


def test_numbers_are_short() -> None:
    """
    Times and sizes as people say them.
    """
    assert [short(s) for s in (None, 0.0004, 0.0123, 0.75, 12.34)] == [
        "-",
        "0.4ms",
        "12ms",
        "750ms",
        "12.3s",
    ]
    assert [span(s) for s in (0, 59.9, 61, 3600, 90_000)] == [
        "0s",
        "59s",
        "1m01s",
        "1h00m",
        "1d01h",
    ]
    assert [size(count) for count in (0, 5 * 2**20, 3 * 2**30)] == ["0M", "5M", "3.0G"]


def test_top_looks_again_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Until Ctrl-C; what was shown last stays where no screen is.
    """
    answers = [status(slot(0, worker(pid=pid))) for pid in (101, 102)]

    def ask() -> dict[str, Any]:
        if not answers:
            raise KeyboardInterrupt
        return answers.pop(0)

    with pytest.raises(KeyboardInterrupt):
        repeat(ask, 0)
    assert " 102 " in capsys.readouterr().out
