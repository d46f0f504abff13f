"""
Both ways of steering: who serves whom, while workers die, change and come and go.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from http.client import HTTPException
from random import Random
from typing import TYPE_CHECKING

import pytest

from stickyd.explain import Client as Visitor
from stickyd.explain import explain
from stickyd.settings import Settings
from tests.system.client import Client, ask_once
from tests.system.log import PATIENCE
from tests.system.placing import rendezvous, source_address, sources_of
from tests.system.processes import all_end_within, eventually
from tests.system.server import HANDED

if TYPE_CHECKING:
    from typing_extensions import Self

    from tests.system.conftest import Start
    from tests.system.server import Server

MIRROR = ("--resource", "tests.system.apps:mirror")
KERNEL = ("--steering", "kernel")
LISTEN = "tcp:0:interface=127.0.0.1"

#: Enough that each of four workers has some, whatever the placement: 4 * 0.75 ** 40 is 4e-5.
SOURCES = [source_address(number) for number in range(40)]


class Visitors:
    """
    Clients who come again and again, each request on a connection of its own.

    Each counts its own hits, so it notices if it is served by a worker that does not know
    it, if a request is lost, and if one is served twice.
    """

    def __init__(self, server: Server, sources: list[str], threads: int = 4) -> None:
        self.hits: dict[str, int] = dict.fromkeys(sources, 0)
        self.problems: list[str] = []
        self._server = server
        self._over = False
        self._rounds = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._visit, args=(sources[number::threads],), daemon=True)
            for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for thread in self._threads:
            thread.join()

    def _visit(self, sources: list[str]) -> None:
        while not self._over and not self.problems:
            for source in sources:
                try:
                    _, hits = ask_once(self._server.target, source).counted
                except Exception as problem:  # noqa: BLE001 (told to the test)
                    self.problems.append(f"{source}: {problem!r}")
                    return
                if hits != self.hits[source] + 1:
                    self.problems.append(f"{source}: hit {hits} after {self.hits[source]}")
                self.hits[source] = hits
            self._rounds.release()

    def wait(self, rounds: int = 3) -> None:
        """
        Wait until so many rounds are done in every thread, more or less, beginning now.
        """
        while self._rounds.acquire(blocking=False):
            pass
        for _ in range(rounds * len(self._threads)):
            while not self._rounds.acquire(timeout=0.1):
                assert not self.problems


@pytest.mark.parametrize("steering", ["handoff", "auto"])
def test_connections_from_500_addresses(steering: str, start: Start) -> None:
    """
    Whoever accepts, each address is served by the slot that ``explain`` predicts.
    """
    server = start(*MIRROR, "--steering", steering, workers=4, listen=LISTEN)
    for number in range(500):
        source = source_address(number)
        expected = explain(Settings(), 4, Visitor(source)).slot
        assert ask_once(server.target, source).told["slot"] == expected, source


#: Any of 127/8, always the same ones.
ANYWHERE = [source_address(number) for number in Random(5).sample(range(2**24 - 4), 2000)]


@pytest.mark.parametrize(
    ("endpoint", "count"),
    [("tcp:0:interface=127.0.0.1", 2000), (r"tcp6:0:interface=\:\:ffff\:127.0.0.1", 500)],
    ids=["IPv4", "dual-stack"],
)
def test_connections_that_the_kernel_places(endpoint: str, count: int, start: Start) -> None:
    """
    The kernel puts 2,000 addresses where ``explain`` predicts, nobody helping: the primary,
    which would take back whom a worker finds misplaced, stands still.
    """
    server = start(*MIRROR, *KERNEL, workers=4, listen=endpoint)
    # A worker that has answered has its listening socket.
    assert {ask_once(server.target, source).told["slot"] for source in SOURCES} == set(range(4))
    server.suspend(server.pid)
    try:
        for source in ANYWHERE[:count]:
            expected = explain(Settings(), 4, Visitor(source)).slot
            told = ask_once(server.target, source).told
            assert (told["host"], told["slot"]) == (source, expected)
    finally:
        server.resume(server.pid)


def test_ipv6_connections_that_the_kernel_places(start: Start) -> None:
    """
    The one IPv6 address that every machine has is served where it belongs.
    """
    server = start(*MIRROR, *KERNEL, workers=4, listen=r"tcp6:0:interface=\:\:1")
    target = "::1", server.port
    expected = explain(Settings(), 4, Visitor("::1")).slot
    assert ask_once(target, "::1").told["slot"] == expected
    server.suspend(server.pid)
    try:
        for _ in range(20):
            told = ask_once(target, "::1").told
            assert (told["host"], told["slot"]) == ("::1", expected)
    finally:
        server.resume(server.pid)


def test_workers_accept_by_themselves(start: Start) -> None:
    """
    With kernel steering clients are served while the primary stands still.
    """
    server = start(*MIRROR, *KERNEL, listen=LISTEN)
    # A worker that has answered has its listening socket.
    assert {ask_once(server.target, source).told["slot"] for source in SOURCES} == {0, 1}
    server.suspend(server.pid)
    try:
        for source in SOURCES:
            assert ask_once(server.target, source).told["slot"] == rendezvous(source, 2)
    finally:
        server.resume(server.pid)


def test_one_address_with_most_of_the_connections_is_told(start: Start) -> None:
    """
    The primary sees no connection where the kernel steers; it is the workers who tell, also
    after they were replaced.
    """
    server = start(*KERNEL, "--heartbeat", "0.05", listen=LISTEN)
    # Many clients, none of them busier than the others, on either worker.
    for source in SOURCES * 2:
        ask_once(server.target, source)
    server.reload()
    assert not server.log.found("of the new connections")
    line = r"(\d+)% of the new connections have the affinity key of (\S+), so"
    # One heartbeat may tell of very many, and is not believed before the others have come.

    def is_told() -> bool:
        ask_once(server.target, SOURCES[5])
        return bool(server.log.found(line))

    assert eventually(is_told)
    (told,) = server.log.found(line)
    assert told[2] == SOURCES[5]
    assert int(told[1]) > 50
    assert "takes --steering handoff, as the kernel sees" in told.string


def test_queue_of_a_killed_worker_waits_for_its_successor(start: Start) -> None:
    """
    Clients whom the kernel has queued for a worker that is killed are served by the next.
    """
    server = start(*MIRROR, *KERNEL, listen=LISTEN)
    victim = server.worker(1)
    server.suspend(victim)
    with ExitStack() as stack:
        sources = sources_of(1, 2, 20)
        waiting = [stack.enter_context(Client(server.target, source)) for source in sources]
        for client in waiting:
            client.send(close=True)
        server.allow(f"Worker {victim} .* died of signal 9")
        os.kill(victim, signal.SIGKILL)
        told = [client.answer().told for client in waiting]
    assert {answer["slot"] for answer in told} == {1}
    assert {answer["pid"] for answer in told} == {server.worker(1)} != {victim}
    assert [answer["host"] for answer in told] == sources


def test_kills_under_load_break_only_what_was_being_served(start: Start) -> None:
    """
    Workers are killed while clients come: every request is answered, but for those of
    the dead worker that were under way; and by the client's own slot.
    """
    server = start(*MIRROR, *KERNEL, "--backoff", "0.01", listen=LISTEN, workers=3)
    server.allow(r"died of signal 9")
    broken: dict[str, int] = {}
    misplaced: list[str] = []
    over = threading.Event()

    def visit(source: str) -> None:
        slot = rendezvous(source, 3)
        while not over.is_set():
            try:
                if ask_once(server.target, source).told["slot"] != slot:
                    misplaced.append(source)
            except (OSError, HTTPException):
                broken[source] = broken.get(source, 0) + 1

    threads = [threading.Thread(target=visit, args=(source,)) for source in SOURCES[:8]]
    for thread in threads:
        thread.start()
    kills = 4
    try:
        for number in range(kills):
            pid = server.worker(number % 3)
            os.kill(pid, signal.SIGKILL)
            server.wait_for_successor(pid)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not misplaced
    # A client has one request at a time, so a death breaks one of each at most.
    assert all(count <= kills for count in broken.values()), broken


@pytest.mark.parametrize("steering", ["handoff", "kernel"])
def test_reload_under_load_loses_nothing(steering: str, start: Start) -> None:
    """
    Each client's count goes on by one with each request while every worker is replaced.
    """
    server = start("--steering", steering, workers=2, listen=LISTEN)
    with Visitors(server, SOURCES) as visitors:
        visitors.wait()
        os.kill(server.pid, signal.SIGHUP)
        server.log.wait_for("Reloaded: every worker is fresh", timeout=30)
        visitors.wait()
    assert not visitors.problems


@pytest.mark.parametrize("steering", ["handoff", "kernel"])
def test_resizes_under_load_lose_nothing(steering: str, start: Start) -> None:
    """
    Each client's count goes on by one with each request while slots come and go.
    """
    server = start("--steering", steering, workers=2, listen=LISTEN)
    with Visitors(server, SOURCES) as visitors:
        visitors.wait()
        for signum, text in (
            (signal.SIGTTIN, "Resized from 2 to 3 slots"),
            (signal.SIGTTIN, "Resized from 3 to 4 slots"),
            (signal.SIGTTOU, "Resized from 4 to 3 slots"),
            (signal.SIGTTIN, "Resized from 3 to 4 slots"),
        ):
            mark = server.log.mark()
            os.kill(server.pid, signum)
            server.log.wait_for(text, since=mark, timeout=30)
            visitors.wait()
    assert not visitors.problems


def test_stop_closes_the_port_and_answers_those_who_wait(start: Start) -> None:
    """
    Whoever is queued at a stop is served; afterwards nobody listens, workers included.
    """
    server = start(*MIRROR, *KERNEL, listen=LISTEN)
    pids = [server.worker(slot) for slot in (0, 1)]
    for pid in pids:
        server.suspend(pid)
    with ExitStack() as stack:
        waiting = [stack.enter_context(Client(server.target, source)) for source in SOURCES]
        for client in waiting:
            client.send()
        server.process.terminate()
        server.log.wait_for("Stopping: requests under way may finish")
        for pid in pids:
            server.resume(pid)
        assert {client.answer().status for client in waiting} == {200}
    assert server.wait_until_gone() == 0
    with pytest.raises(ConnectionRefusedError):
        Client(server.target)


def test_workers_listen_no_more_when_the_primary_is_dead(start: Start) -> None:
    """
    A killed primary's port is free as soon as its workers have noticed, though they
    finish what they have; and a new primary can listen there.
    """
    server = start(*KERNEL, listen=LISTEN)
    pid, hits = ask_once(server.target).counted
    with Client(server.target) as kept:
        assert kept.ask().counted == (pid, hits + 1)
        workers = server.watch_workers()
        server.kill()
        assert kept.at_end()
    assert all_end_within(workers, PATIENCE)
    server.check_nothing_left()
    again = start(*KERNEL, listen=f"tcp:{server.port}:interface=127.0.0.1")
    assert ask_once(again.target).counted[1] == 1


@pytest.mark.parametrize(
    ("arguments", "listen", "reason"),
    [
        (("--placement", "modulo"), LISTEN, "rendezvous placement only, not modulo"),
        (("--placement", "least"), LISTEN, "rendezvous placement only, not least"),
        ((), HANDED, "it needs a tcp: or tcp6: endpoint, and 'systemd:"),
    ],
)
def test_what_the_kernel_cannot_do(
    arguments: tuple[str, ...], listen: str, reason: str, start: Start
) -> None:
    """
    ``kernel`` ends the start with one line that says why; ``auto`` says why and hands over.
    """
    server = start(*KERNEL, *arguments, listen=listen, ready=False)
    assert server.wait_until_gone() == 1
    server.log.wait_for_end()
    assert reason in server.log.text
    assert "Traceback" not in server.log.text
    auto = start(*MIRROR, "--steering", "auto", *arguments, listen=listen)
    auto.log.wait_for(f"Steering by handoff: .*{reason}")
    assert ask_once(auto.target).status == 200


@pytest.mark.parametrize("steering", ["handoff", "kernel"])
def test_upgrade_under_load_loses_nothing(steering: str, start: Start) -> None:
    """
    Each client's count goes on by one with each request while the primary replaces its
    own code, whoever accepts; and a resize works as before.
    """
    server = start("--steering", steering, workers=2, listen=LISTEN)
    with Visitors(server, SOURCES) as visitors:
        visitors.wait()
        os.kill(server.pid, signal.SIGUSR2)
        server.log.wait_for("Reloaded: every worker is fresh", timeout=60)
        visitors.wait()
        os.kill(server.pid, signal.SIGTTIN)
        server.log.wait_for("Resized from 2 to 3 slots", timeout=30)
        visitors.wait()
    assert not visitors.problems


def test_least_spreads_newcomers_and_remembers_them(start: Start) -> None:
    """
    Newcomers go where the fewest are; each client comes back to its worker, also after
    a reload and an upgrade, and keeps its count when its slot is removed.
    """
    server = start("--placement", "least", workers=3, listen=LISTEN)
    sources = SOURCES[:30]
    with ExitStack() as stack:
        clients = {source: stack.enter_context(Client(server.target, source)) for source in sources}
        slots = {
            source: server.slot_of(client.ask().counted[0]) for source, client in clients.items()
        }
    assert sorted(slots.values()) == [0] * 10 + [1] * 10 + [2] * 10
    hits = dict.fromkeys(sources, 1)

    def all_stay(among: set[int]) -> None:
        for source in sources:
            pid, count = ask_once(server.target, source).counted
            hits[source] += 1
            assert count == hits[source], source
            if slots[source] in among:
                assert server.slot_of(pid) == slots[source]

    for signum, line in (
        (signal.SIGHUP, "Reloaded: every worker is fresh"),
        (signal.SIGUSR2, "Reloaded: every worker is fresh"),
    ):
        mark = server.log.mark()
        os.kill(server.pid, signum)
        server.log.wait_for(line, since=mark, timeout=60)
        all_stay({0, 1, 2})
    os.kill(server.pid, signal.SIGTTOU)
    server.log.wait_for("Resized from 3 to 2 slots", timeout=30)
    all_stay({0, 1})
    os.kill(server.pid, signal.SIGTTIN)
    server.log.wait_for("Resized from 2 to 3 slots", timeout=30)
    all_stay({0, 1})
