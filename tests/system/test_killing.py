"""
Workers killed under load: nobody is refused or reset but those whom the dead one served.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.system.client import ask_once
from tests.system.placing import sources_of
from tests.system.under_load import CONNECTIONS, UnderLoad

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start

SOAK = float(os.environ.get("SOAK_SECONDS", "60"))

#: Seconds between two deaths.
EVERY = 0.5


def kill_workers(start: Start, load_program: Path, directory: Path, seconds: float) -> None:
    """
    Kill a random worker every so often under load.

    A connection that breaks must be one that a dead worker had taken: at most those that
    were open at its death.  A failed request of another kind fails the test.
    """
    server = start("--spares", "1", workers=4)
    server.log.wait_for(r"Worker \d+ online", count=5)
    server.allow(r"Worker \d+ .* died of signal 9", r"Spare worker \d+ died of signal 9")
    choose = random.Random(1)
    sources = [sources_of(slot, 4, 1)[0] for slot in range(4)]
    deaths = 0
    waits: list[float] = []
    with UnderLoad(load_program, server, directory, seconds, timeout_ms=30_000) as load:
        while load.runs:
            slots = [slot for slot in range(4) if server.worker(slot) in server.serving()]
            if slots:
                slot = choose.choice(slots)
                began = time.monotonic()
                os.kill(server.worker(slot), signal.SIGKILL)
                deaths += 1
                # A client who comes now waits for the successor, and for nothing else.
                assert ask_once(server.target, sources[slot]).status == 200
                waits.append(time.monotonic() - began)
            threading.Event().wait(EVERY)
    kinds = {(seen.fields["kind"], seen.fields["state"]) for seen in load.ledger
             if seen.event == "failed"}  # fmt: skip
    # The request was on its way to, or under way in, a worker that had taken it.
    allowed = {(kind, state) for kind in ("reset", "cut_short", "stale")
               for state in ("connect", "sending", "sent", "partial")}  # fmt: skip
    assert kinds <= allowed, load.failures()[:5]
    assert load.outcome.failed <= deaths * CONNECTIONS
    assert deaths >= 2
    # The figure of docs/reliability.md.
    print(  # noqa: T201
        f"{deaths} deaths, {load.outcome.failed} of {load.outcome.begun} requests lost with"
        f" them; from a death to the first answer: median"
        f" {statistics.median(waits) * 1000:.0f} ms, longest {max(waits) * 1000:.0f} ms"
    )


def test_only_what_the_dead_had_taken_is_lost(
    start: Start, load_program: Path, tmp_path: Path
) -> None:
    """
    With a spare, a killed worker costs the connections that it had taken, and no others.
    """
    kill_workers(start, load_program, tmp_path, 6)


@pytest.mark.soak
def test_only_what_the_dead_had_taken_is_lost_for_long(
    start: Start, load_program: Path, tmp_path: Path
) -> None:
    """
    The same, for long.
    """
    kill_workers(start, load_program, tmp_path, SOAK)
