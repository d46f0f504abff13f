"""
One client always reaches one worker.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pytest

from benchmarks.generator import Load, run_load
from stickyd.placement.rendezvous import Rendezvous
from tests.system.client import Client, ask_once
from tests.system.placing import modulo, rendezvous, source_address

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

#: Enough that each of four workers has some, whatever the placement: 4 * 0.75 ** 40 is 4e-5.
SOURCES = [source_address(number) for number in range(40)]

MIRROR = ("--resource", "tests.system.apps:mirror")


def slots_of(server: Server, sources: list[str], host: str = "127.0.0.1") -> dict[str, int]:
    """
    Ask once from each address, on a connection of its own: who serves it.
    """
    target = (host, server.port)
    return {source: ask_once(target, source).told["slot"] for source in sources}


def test_counts_one_client(start: Start) -> None:
    """
    Three requests from one address are answered 1, 2, 3 by one worker.
    """
    server = start()
    answers = [ask_once(server.target).counted for _ in range(3)]
    pid = answers[0][0]
    assert answers == [(pid, 1), (pid, 2), (pid, 3)]
    assert pid in {worker.pid for worker in server.started}


def test_counts_on_one_connection(start: Start) -> None:
    """
    Kept-alive connections and single ones of a client add to the same count.
    """
    server = start()
    pid, first = ask_once(server.target).counted
    with Client(server.target) as kept:
        assert [kept.ask().counted for _ in range(3)] == [(pid, first + n) for n in (1, 2, 3)]
        assert ask_once(server.target).counted == (pid, first + 4)
        assert kept.ask().counted == (pid, first + 5)


@pytest.mark.parametrize(
    ("placement", "expected"), [("rendezvous", rendezvous), ("modulo", modulo)]
)
def test_spreads_addresses(placement: str, expected: object, start: Start) -> None:
    """
    Addresses spread over all workers, each to the slot that the placement computes.
    """
    assert callable(expected)
    server = start(*MIRROR, "--placement", placement, workers=4)
    slots = slots_of(server, SOURCES)
    assert slots == {source: expected(source, 4) for source in SOURCES}
    assert set(slots.values()) == {0, 1, 2, 3}


def test_keeps_each_address(start: Start) -> None:
    """
    Each of many addresses keeps its worker and its own count, on connections of both kinds.
    """
    server = start(workers=4)
    first = {source: ask_once(server.target, source).counted for source in SOURCES}
    assert {hits for _, hits in first.values()} == {1}
    assert {pid for pid, _ in first.values()} == {worker.pid for worker in server.started}
    for source in SOURCES:
        pid = first[source][0]
        with Client(server.target, source) as kept:
            assert [kept.ask().counted for _ in range(2)] == [(pid, 2), (pid, 3)]
        assert ask_once(server.target, source).counted == (pid, 4)


def test_shows_the_client_to_the_application(start: Start) -> None:
    """
    The application sees the address and the port of the client itself.
    """
    server = start(*MIRROR)
    with Client(server.target, "127.0.0.77") as client:
        told = client.ask().told
        assert (told["host"], told["port"]) == client.socket.getsockname()
        assert told["kind"] == "IPv4Address"


def test_places_by_network(start: Start) -> None:
    """
    With ``ip/24`` the clients of one /24 share a worker, and other networks have others.
    """
    server = start(*MIRROR, "--affinity", "ip/24", workers=4)
    neighbours = [f"127.1.1.{number}" for number in range(1, 20)]
    assert len(set(slots_of(server, neighbours).values())) == 1
    networks = [f"127.1.{number}.1" for number in range(40)]
    assert set(slots_of(server, networks).values()) == {0, 1, 2, 3}


def test_serves_ipv6(start: Start) -> None:
    """
    An IPv6 listener serves IPv6 clients, each in one place, by the slot of their /64.
    """
    server = start(*MIRROR, listen="tcp6:0:interface=\\:\\:1", workers=4)
    told = [ask_once(("::1", server.port), "::1").told for _ in range(3)]
    network = ipaddress.IPv6Address("::").packed
    assert [(one["host"], one["slot"]) for one in told] == [
        ("::1", Rendezvous(4).slot_of(network))
    ] * 3


def test_mapped_clients_are_ipv4_clients(start: Start) -> None:
    """
    On a dual-stack listener IPv4 clients are placed and shown as on a plain IPv4 one.
    """
    server = start(*MIRROR, listen="tcp6:0:interface=\\:\\:", workers=4)
    assert slots_of(server, SOURCES) == {source: rendezvous(source, 4) for source in SOURCES}
    told = ask_once(server.target, "127.0.0.9").told
    assert (told["host"], told["kind"]) == ("127.0.0.9", "IPv4Address")
    told = ask_once(("::1", server.port), "::1").told
    assert (told["host"], told["kind"]) == ("::1", "IPv6Address")


def test_modulo_counts_mapped_addresses_as_node_does(start: Start) -> None:
    """
    On a dual-stack listener ``modulo`` hashes ``::ffff:127.0.0.9``, as Node's does.
    """
    server = start(*MIRROR, "--placement", "modulo", listen="tcp6:0:interface=\\:\\:", workers=4)
    expected = {source: modulo(f"::ffff:{source}", 4) for source in SOURCES}
    assert slots_of(server, SOURCES) == expected


def test_serves_a_unix_socket(start: Start, tmp_path: Path) -> None:
    """
    Clients of a UNIX socket, who cannot be told apart, are all served by one worker.
    """
    path = tmp_path / "app.sock"
    server = start(listen=f"unix:{path}")
    counted = [ask_once(str(path)).counted for _ in range(3)]
    assert counted == [(counted[0][0], number) for number in (1, 2, 3)]
    server.stop()
    assert not path.exists()


def test_listens_on_several_endpoints(start: Start, tmp_path: Path) -> None:
    """
    A client keeps its worker whichever of several endpoints it comes in by.
    """
    server = start("--listen", "tcp:0:interface=127.0.0.2", workers=4)
    other = server.log.wait_for(r"listening on .*\(127\.0\.0\.2:(\d+)\)")
    pid, _ = ask_once(server.target, "127.0.0.50").counted
    assert ask_once(("127.0.0.2", int(other[1])), "127.0.0.50").counted == (pid, 2)


def test_twenty_thousand_connections(start: Start, load_program: Path, tmp_path: Path) -> None:
    """
    Of 20,000 connections from 500 addresses none fails, no address is served by two
    workers, and every count is the one before plus 1.
    """
    server = start(workers=4)
    load = Load(
        server.port, "close", 64, 500, seconds=60, requests=20_000, ledger=tmp_path / "ledger"
    )
    outcome = run_load(load_program, load)
    assert outcome.errors == {}
    assert outcome.answered == 20_000
    assert outcome.stickiness.holds
    assert outcome.stickiness.sources == 500
    assert outcome.stickiness.order_checked == 20_000 - 500
    assert {int(pid) for pid in outcome.stickiness.pids} == {b.pid for b in server.started}
