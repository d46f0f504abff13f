"""
Workers killed under load: nobody is refused or reset but those whom the dead one served.

Each failed request of the load is matched, by its connection, with the record of what
really passed between the primary and its workers (:mod:`tests.system.wire`).
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.client import ask_once
from tests.system.log import PATIENCE
from tests.system.placing import sources_of
from tests.system.processes import Watched, eventually
from tests.system.under_load import UnderLoad
from tests.system.wire import channel_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server
    from tests.system.wire import Journey, Wire

SOAK = float(os.environ.get("SOAK_SECONDS", "60"))

#: Seconds between two deaths.
EVERY = 0.5

WORKERS = 4


@dataclass(frozen=True)
class Death:
    """
    A worker's end.

    :ivar channel: of the worker, as the record names it.
    :ivar at_us: just before it was killed, by the monotonic clock.
    """

    channel: int
    at_us: int


class Killer:
    """
    Kills a random worker at every tick of a clock that waits for nobody.

    Beside it, for each death, a client of that slot waits for the first answer.

    :ivar deaths: so far.
    :ivar ticks: how often the clock has ticked.
    :ivar skipped: at how many of them no worker was up.
    """

    def __init__(self, server: Server, wire: Wire, behind: bool) -> None:
        """
        :param behind: stop each victim first until it has connections to acknowledge.
        """
        self._server = server
        self._wire = wire
        self._behind = behind
        # Not for secrets; which worker dies when is to differ from run to run.
        self._random = random.Random()
        self._sources = [sources_of(slot, WORKERS, 1)[0] for slot in range(WORKERS)]
        self._answers: dict[int, Future[float]] = {}
        self._all: list[Future[float]] = []
        self._killed: set[int] = set()
        self.deaths: list[Death] = []
        self.ticks = self.skipped = 0

    def run(self, load: UnderLoad) -> list[float]:
        """
        Kill until the load ends.

        :return: for each death the seconds from then to the first answer of the slot.
        """
        tick = threading.Event()
        began = time.monotonic()
        with ThreadPoolExecutor(WORKERS) as beside:
            while load.runs:
                self.ticks += 1
                up = self._up()
                if up:
                    slot = self._random.choice(up)
                    self._kill(slot, beside)
                else:
                    self.skipped += 1
                tick.wait(began + self.ticks * EVERY - time.monotonic())
            return [answer.result() for answer in self._all]

    def _up(self) -> list[int]:
        """
        The slots whose worker serves, and has answered since the last death there.
        """
        serving = self._server.serving()
        return [
            slot
            for slot in range(WORKERS)
            if (pid := self._server.worker(slot)) in serving
            and pid not in self._killed
            and (slot not in self._answers or self._answers[slot].done())
        ]

    def _kill(self, slot: int, beside: ThreadPoolExecutor) -> None:
        pid = self._server.worker(slot)
        self._killed.add(pid)
        watched, channel = Watched(pid), channel_of(pid)
        # Here and now, or as soon as it is behind.
        died = None if self._behind else self._end(pid, channel)
        self._answers[slot] = beside.submit(self._first_answer, slot, watched, channel, died)
        self._all.append(self._answers[slot])

    def _end(self, pid: int, channel: int) -> float:
        died = time.monotonic()
        self.deaths.append(Death(channel, int(died * 1e6)))
        os.kill(pid, signal.SIGKILL)
        return died

    def _first_answer(self, slot: int, watched: Watched, channel: int, died: float | None) -> float:
        pid = watched.pid
        if died is None:
            self._server.suspend(pid)
            assert eventually(lambda: self._wire.owes(channel)), f"nobody came to {pid}"
            died = self._end(pid, channel)
        # It may run for an instant yet; a connection that it acknowledges then is lost.
        with closing(watched):
            assert watched.ends_within(PATIENCE)
        answer = ask_once(self._server.target, self._sources[slot])
        assert answer.counted[0] != pid
        return time.monotonic() - died


def excused(
    failure: dict[str, Any],
    journeys: dict[tuple[str, int], list[Journey]],
    deaths: dict[int, int],
) -> bool:
    """
    Whether a request failed because the worker that had acknowledged its connection, and
    had not given it back, was killed before.

    :param deaths: when the worker of a channel was killed.
    """
    since, until = failure["opened_us"], failure["failed_us"]
    its_own = [
        journey
        for journey in journeys.get((failure["source"], failure["port"]), ())
        if since <= journey.accepted_us <= until
    ]
    if not its_own:
        return False
    deliveries = [each for each in its_own[-1].deliveries if each.sent_us <= until]
    return bool(
        deliveries
        and deliveries[-1].state == "acknowledged"
        and deaths.get(deliveries[-1].channel, until) < until
    )


def kill_workers(
    start: Start,
    load_program: Path,
    wire: Wire,
    directory: Path,
    seconds: float,
    behind: bool = False,
) -> None:
    """
    Kill workers under load, and account for every failed request.
    """
    server = start(
        "--spares", "1", workers=WORKERS, before=wire.before, variables=wire.variables
    )  # fmt: skip
    server.log.wait_for(r"Worker \d+ online", count=WORKERS + 1)
    server.allow(r"Worker \d+ .* died of signal 9", r"Spare worker \d+ died of signal 9")
    # It may be starting when the server is stopped, and these machines are shared.
    server.allow(r"Worker \d+ \(spare\) did not stop in time")
    killer = Killer(server, wire, behind)
    with UnderLoad(load_program, server, directory, seconds, timeout_ms=30_000) as load:
        waits = killer.run(load)
    journeys = wire.journeys()
    deaths = {death.channel: death.at_us for death in killer.deaths}
    failures = [seen.fields for seen in load.ledger if seen.event == "failed"]
    unexcused = [each for each in failures if not excused(each, journeys, deaths)]
    assert not unexcused, f"{len(unexcused)} of {len(failures)} failures, first {unexcused[:5]}"
    assert len(failures) == load.outcome.failed
    # What a broken connection looks like to its client; no 503, no timeout, no refusal.
    assert {each["kind"] for each in failures} <= {"reset", "cut_short", "stale"}
    every = [journey for of_one in journeys.values() for journey in of_one]
    assert not [journey for journey in every if journey.served_again]
    assert len(killer.deaths) + killer.skipped == killer.ticks
    assert len(killer.deaths) == len(waits) >= 2
    replayed = sum(journey.replayed for journey in every)
    assert replayed or not behind
    # The figure of docs/reliability.md.
    print(  # noqa: T201
        f"| {len(killer.deaths)} deaths in {seconds:g} s, {killer.skipped} of {killer.ticks}"
        f" ticks skipped | {load.outcome.begun:,} requests, {len(failures)} failed, all on a"
        f" connection that the dead worker had acknowledged; {replayed} connections delivered"
        f" again | from a death to the first answer: median"
        f" {statistics.median(waits) * 1000:.0f} ms, longest {max(waits) * 1000:.0f} ms |"
    )


def test_only_what_the_dead_had_acknowledged_is_lost(
    start: Start, load_program: Path, wire: Wire, tmp_path: Path
) -> None:
    """
    With a spare, a killed worker costs the connections that it had acknowledged, each of
    them known by name, and no others.
    """
    kill_workers(start, load_program, wire, tmp_path, 6)


def test_what_was_on_its_way_to_the_dead_is_delivered_again(
    start: Start, load_program: Path, wire: Wire, tmp_path: Path
) -> None:
    """
    The same with workers that were behind: they die owing acknowledgements.
    """
    kill_workers(start, load_program, wire, tmp_path, 3, behind=True)


@pytest.mark.soak
def test_only_what_the_dead_had_acknowledged_is_lost_for_long(
    start: Start, load_program: Path, wire: Wire, tmp_path: Path
) -> None:
    """
    The same, for long.
    """
    kill_workers(start, load_program, wire, tmp_path, SOAK)
