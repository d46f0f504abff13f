"""
Under load, every request is answered and every count goes on, whatever the operator does.

The load comes from 500 addresses, on connections that are kept and on single ones.  Its
ledger says of every request what became of it; a count is always the last plus 1, whoever
answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from tests.system.server import HANDED, Server
from tests.system.under_load import UnderLoad, placement
from tests.system.under_tls import UnderTls
from tests.tls_harness import write_certificate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.system.conftest import Start

#: Something that happens to a server, and the placements that were in force meanwhile.
Event = Callable[[Server], "list[Callable[[str], int]]"]

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
    Resize from 4 slots to 6, to 3, and back; or alike from as many as there are.
    """
    usual = server.workers
    for count in (usual + 2, usual - 1, usual):
        server.resize_to(count)
    return [placement(usual + more) for more in (1, 2, 1, 0, -1, 0)]


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
    one, other, every = 1, server.workers - 1, set(range(server.workers))
    for command in ("drain", "undrain"):
        for slot in (one, other):
            assert server.ask(f"{command} {slot}") == ""
    drained: list[set[int]] = [{one}, {one, other}, {other}, set()]
    return [placement(server.workers, every - slots) for slots in drained]


EVENTS = [reload, resize, upgrade, drain]


@dataclass(frozen=True)
class Trial:
    """
    A server that changes, and the load on it.

    :ivar workers: at the beginning, and after each event.
    :ivar arguments: of the server.
    :ivar listen: its endpoint, where it is not handed a socket.
    :ivar by_client: whether clients stay where they are known, wherever they would be placed.
    """

    start: Start
    load_program: Path
    directory: Path
    workers: int = 4
    arguments: Sequence[str] = ()
    listen: str = HANDED
    by_client: bool = False

    def serve(self) -> Server:
        """
        Start the server.
        """
        return self.start(*self.arguments, workers=self.workers, listen=self.listen, embedded=True)

    def run(self, seconds: float, rounds: int, events: Sequence[Event]) -> None:
        """
        Have the events happen under load for so long and so many times at least, and check what the
        clients saw.
        """
        server = self.serve()
        if self.by_client:
            server.allow("gives its clients away before they have left")
        placements = [placement(self.workers)]
        done = 0
        with UnderLoad(self.load_program, server, self.directory, seconds) as load:
            while load.runs or done < rounds:
                for event in events:
                    placements += event(server)
                done += 1
        load.check_nothing_was_lost()
        if self.by_client:
            # A stop would end the workers that these give their sessions to.
            for kept in server.log.found(r"Worker (\d+) \(slot \d, generation \d+\) keeps the"):
                server.log.wait_for(rf"Worker {kept[1]} \(slot \d\) exited")
        else:
            load.check_moves(placements)
        outcome = load.outcome
        # The figures of docs/reliability.md.
        print(  # noqa: T201
            f"| {named(events)} {' '.join(self.arguments)} | {done} | {outcome.begun:,} |"
            f" {outcome.failed} | {outcome.stickiness.order_wrong} | 0 |"
            f" {outcome.latency_ms['max'] / 1000:.2f} s |"
        )

    def run_by_tls(self, seconds: float, events: Sequence[Event]) -> None:
        """
        The same with clients that speak TLS, and keep their connections while they may.
        """
        certificate = write_certificate(self.directory, "a", "a.test")
        server = replace(self, arguments=("--tls", certificate)).serve()
        done = 0
        with UnderTls(server, seconds) as load:
            while load.runs or done < 1:
                for event in events:
                    event(server)
                done += 1
        load.check_nothing_was_lost()
        seen = load.seen
        # Or the test would have proved nothing.
        assert seen["told to be the last"]
        print(  # noqa: T201
            f"| {named(events)} --tls | {done} | {seen['requests']:,} | 0 | 0 |"
            f" {seen['told to be the last']} told to be the last,"
            f" {seen['closed while idle']} closed while idle |"
        )


def named(events: Sequence[Event]) -> str:
    """
    Name events, for a table.
    """
    return ", ".join(event.__name__ for event in events)


@pytest.fixture
def trial(start: Start, load_program: Path, tmp_path: Path) -> Trial:
    """
    Four workers that are handed a socket.
    """
    return Trial(start, load_program, tmp_path)


def steered(trial: Trial) -> Trial:
    """
    The same with workers that accept for themselves.
    """
    return replace(trial, arguments=("--steering", "kernel"), listen="tcp:0:interface=127.0.0.1")


def kept(trial: Trial) -> Trial:
    """
    The same where relieved workers keep their clients, for a short time: then the clients go to
    the present worker with their counts.
    """
    arguments = ("--reload-mode", "client", "--drain-timeout", "2")
    return replace(trial, arguments=arguments, by_client=True)


def test_nothing_is_lost(trial: Trial) -> None:
    """
    Drain, resize, upgrade and reload under load fail no request and lose no count, and
    clients are only where the placement has them.
    """
    replace(trial, workers=3).run(1, 1, [drain, resize, upgrade, reload])


def test_nothing_is_lost_where_the_kernel_steers(trial: Trial) -> None:
    """
    The same where workers accept for themselves, though the kernel hears of a new
    placement a moment later than they.
    """
    replace(steered(trial), workers=2).run(1, 1, [resize, reload])


def test_nothing_is_lost_by_client(trial: Trial) -> None:
    """
    The same where clients stay with the workers that know them, and these give them away at
    their deadline, or as there are too many of them.
    """
    replace(kept(trial), workers=2).run(1, 1, [resize, reload])


def test_nothing_is_lost_by_tls(trial: Trial) -> None:
    """
    TLS connections cannot be handed over: they are closed in good order, between two
    requests, and no request is lost and no count.
    """
    replace(trial, workers=2).run_by_tls(1, [resize, reload])


@pytest.mark.soak
@pytest.mark.parametrize("event", EVENTS)
def test_nothing_is_lost_for_long(event: Event, trial: Trial) -> None:
    """
    The same, at least five times over.
    """
    trial.run(SOAK, 5, [event])


@pytest.mark.soak
def test_nothing_is_lost_in_any_order(trial: Trial) -> None:
    """
    The same, one kind of change right after the other.
    """
    trial.run(SOAK, 1, EVENTS)


@pytest.mark.soak
@pytest.mark.parametrize("event", [reload, resize])
def test_nothing_is_lost_where_the_kernel_steers_for_long(event: Event, trial: Trial) -> None:
    """
    The same where the kernel steers, at least five times over.
    """
    steered(trial).run(SOAK, 5, [event])


@pytest.mark.soak
@pytest.mark.parametrize("event", EVENTS)
def test_nothing_is_lost_by_client_for_long(event: Event, trial: Trial) -> None:
    """
    The same by client.
    """
    kept(trial).run(SOAK, 2, [event])


@pytest.mark.soak
@pytest.mark.parametrize("event", [reload, resize])
def test_nothing_is_lost_by_tls_for_long(event: Event, trial: Trial) -> None:
    """
    The same by TLS.
    """
    trial.run_by_tls(SOAK, [event])
