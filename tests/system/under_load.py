"""
Load on a server while it changes, and what its clients saw.
"""

from __future__ import annotations

import ipaddress
import json
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from benchmarks.generator import Load, Outcome
from stickyd.placement.failover import Failover
from stickyd.placement.rendezvous import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from tests.system.server import Server

#: The clients: so many addresses, of which so many ask at any time.
SOURCES = 500
CONNECTIONS = 80
THINK_MS = 25

#: Seconds after which a load ends in any case.
LONGEST = 900.0


def placement(slots: int, available: Iterable[int] = ()) -> Callable[[str], int]:
    """
    Where the default placement has an address.

    :param available: the slots that are not drained; all by default.
    """
    slot_of = Failover(Rendezvous, slots, list(available) or range(slots)).slot_of
    return lambda source: slot_of(ipaddress.ip_address(source).packed)


@dataclass(frozen=True)
class Seen:
    """
    A line of the ledger: a failure, or an answer by another process than the one before.
    """

    event: str
    source: str
    fields: dict[str, Any]


class UnderLoad:
    """
    A load that runs until the end of the ``with`` block, and at least for its time.

    :ivar outcome: what came of it, after the block.
    :ivar ledger: every failure and every move, after the block.
    """

    _process: subprocess.Popen[str]

    outcome: Outcome

    def __init__(
        self,
        program: Path,
        server: Server,
        directory: Path,
        seconds: float,
        mode: str = "mixed",
        timeout_ms: int = 20_000,
    ) -> None:
        self._server = server
        self._path = directory / "ledger"
        self._seconds = seconds
        load = Load(
            server.port,
            mode=mode,
            connections=CONNECTIONS,
            sources=SOURCES,
            seconds=LONGEST,
            per_connection=12,
            timeout_ms=timeout_ms,
            ledger=self._path,
            carried=True,
            think_ms=THINK_MS,
        )
        self._command = [str(program), *load.arguments()]
        self._ends = 0.0
        self.ledger: list[Seen] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._ends = time.monotonic() + self._seconds
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._process.kill()
            self._process.communicate()
            return
        threading.Event().wait(max(0.0, self._ends - time.monotonic()))
        self._process.send_signal(signal.SIGTERM)
        report, _ = self._process.communicate()
        self.outcome = Outcome.from_json(report)
        for line in self._path.read_text().splitlines():
            fields = json.loads(line)
            self.ledger.append(Seen(fields["event"], fields["source"], fields))

    @property
    def runs(self) -> bool:
        """
        Whether its time is not over yet.
        """
        return time.monotonic() < self._ends

    def failures(self) -> list[dict[str, Any]]:
        """
        What was not answered as it should be, and every count that was not the last plus 1.
        """
        return [seen.fields for seen in self.ledger if seen.event in ("failed", "order")]

    def check_nothing_was_lost(self) -> None:
        """
        Check that every request was answered, and that every count was the last plus 1.
        """
        failures = self.failures()
        assert not failures, (
            f"{len(failures)} of {self.outcome.begun}, first {failures[:5]}\n"
            f"{self.outcome}\n{self._server.log.text[-6000:]}"
        )
        assert self.outcome.errors == {}
        assert self.outcome.failed == 0
        assert self.outcome.stickiness.order_wrong == 0
        assert self.outcome.stickiness.sources > SOURCES / 2

    def check_moves(self, placements: Sequence[Callable[[str], int]]) -> None:
        """
        Check that every client was always on a slot that one of the placements gave it, and
        changed from slot to slot in their order.

        :param placements: those that were in force, in their order.
        """
        paths: dict[str, list[int]] = {}
        for seen in self.ledger:
            if seen.event == "moved":
                path = paths.setdefault(seen.source, [])
                for pid in (seen.fields["last_pid"], seen.fields["pid"]):
                    slot = self._server.slot_of(pid)
                    if not path or path[-1] != slot:
                        path.append(slot)
        for source, path in paths.items():
            allowed = iter(place(source) for place in placements)
            assert all(slot in allowed for slot in path), (
                f"{source} was on {path}, but belonged to {[p(source) for p in placements]}"
            )
