"""
Under load, every request is answered and every count goes on, whatever the operator does.

The load comes from 500 addresses, on connections that are kept and on single ones.  Its
ledger says of every request what became of it; a count is always the last plus 1, whoever
answers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.system.under_load import UnderLoad, placement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

#: Seconds of the long form.
SOAK = float(os.environ.get("SOAK_SECONDS", "60"))


def reload(server: Server) -> list[Callable[[str], int]]:
    """
    Reload.
    """
    server.reload()
    return []


def resize(server: Server) -> list[Callable[[str], int]]:
    """
    Resize from 4 slots to 6, to 3, and back.
    """
    for count in (6, 3, 4):
        server.resize_to(count)
    return [placement(count) for count in (5, 6, 5, 4, 3, 4)]


def upgrade(server: Server) -> list[Callable[[str], int]]:
    """
    Upgrade.
    """
    server.upgrade()
    return []


def drain(server: Server) -> list[Callable[[str], int]]:
    """
    Drain two slots, and let their clients come back.
    """
    for command in ("drain 1", "drain 3", "undrain 1", "undrain 3"):
        assert server.ask(command) == ""
    return [placement(4, standing) for standing in ((0, 2, 3), (0, 2), (0, 1, 2), range(4))]


EVENTS = [reload, resize, upgrade, drain]


def changes(
    start: Start,
    load_program: Path,
    directory: Path,
    seconds: float,
    rounds: int,
    events: Sequence[Callable[[Server], list[Callable[[str], int]]]],
) -> None:
    """
    Have the events happen so many times under load, and check what the clients saw.
    """
    server = start(workers=4, embedded=True)
    placements = [placement(4)]
    done = 0
    with UnderLoad(load_program, server, directory, seconds) as load:
        while load.runs:
            for event in events:
                placements += event(server)
            done += 1
    load.check_nothing_was_lost()
    load.check_moves(placements)
    assert done >= rounds, f"only {done} rounds in {seconds:g} s"
    print(f"{done} rounds: {load.outcome}")  # noqa: T201 - the figure of docs/reliability.md


def test_nothing_is_lost(start: Start, load_program: Path, tmp_path: Path) -> None:
    """
    Drain, resize, upgrade and reload under load fail no request and lose no count, and
    clients are only where the placement has them.
    """
    changes(start, load_program, tmp_path, 1, 1, [drain, resize, upgrade, reload])


@pytest.mark.soak
@pytest.mark.parametrize("event", EVENTS)
def test_nothing_is_lost_for_long(
    event: Callable[[Server], list[Callable[[str], int]]],
    start: Start,
    load_program: Path,
    tmp_path: Path,
) -> None:
    """
    The same, at least five times over.
    """
    changes(start, load_program, tmp_path, SOAK, 5, [event])


@pytest.mark.soak
def test_nothing_is_lost_in_any_order(start: Start, load_program: Path, tmp_path: Path) -> None:
    """
    The same, one kind of change right after the other.
    """
    changes(start, load_program, tmp_path, SOAK, 1, EVENTS)
