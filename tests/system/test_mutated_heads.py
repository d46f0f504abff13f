"""
Damaged heads for a live server: each is answered or closed, and nothing stays behind.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.mutation import HEADS, PROXY_HEADERS, Mutator, client_hellos
from tests.system.client import Client, ask_once
from tests.system.hostile import attempt_all
from tests.system.processes import cpu_seconds, eventually
from tests.tls_harness import client_context, write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

HERE = "tests.system.frameworks.tellers"
KINDS = {
    "resource": ("--resource", f"{HERE}:resource"),
    "asgi": ("--asgi", f"{HERE}:asgi"),
    "wsgi": ("--wsgi", f"{HERE}:wsgi"),
}

#: Every key that there is, so that all of a head is looked at.
AFFINITY = (
    "cookie:stickyd,stamp:Mcp-Session-Id,learn:cookie:session,learn:query:sid,header:X-User,"
    "query:user,path:/room/([^/]+),sni,ip"
)

#: Seconds for each of what a connection may wait for: first bytes, a head, a body, another.
TIMEOUT = 2

#: Seconds after which each is answered or closed: the primary's wait and the worker's, whose
#: clock is late by two seconds, and what a busy machine takes.
LONGEST = 2 * TIMEOUT + 2 + 30.0

PROXY, STRANGER, OTHER = "127.0.0.1", "127.0.0.3", "127.0.0.2"

SHORT = 2500
WHOLE = 20_000


def damaged(
    count: int, seeds: list[bytes], seed: int, patient: int
) -> Iterator[tuple[str, list[bytes], bool]]:
    """
    Draw damaged input of a trusted proxy and of a stranger, in up to three pieces.

    :param patient: how many of eight do not hang up behind it.
    """
    random = Random(seed)
    mutator = Mutator(random, seeds)
    for _ in range(count):
        data = mutator.next()
        cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(3)))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        source = random.choice([PROXY, STRANGER])
        yield source, [piece for piece in pieces if piece], random.randrange(8) >= patient


def check_unharmed(
    server: Server,
    count: int,
    seeds: list[bytes],
    seed: int,
    outcomes: set[str],
    visit: Callable[[Server], object],
    patient: int = 1,
) -> None:
    """
    Send so many damaged heads, and check that the server is as it was.

    :param outcomes: what there is among others, so that not all of it was too damaged.
    :param visit: what any client can do, before and after.
    :param patient: how many of eight wait without hanging up.
    """
    for _ in range(20):
        visit(server)
    # What the last of these has closed, the server has too by then.
    server.pause(1)
    before = server.descriptors()
    found = attempt_all(server.target, damaged(count, seeds, seed, patient), LONGEST)
    assert found.total() == count
    assert outcomes <= set(found), found

    def as_before() -> bool:
        return all(count <= before[pid] for pid, count in server.descriptors().items())

    assert eventually(as_before, LONGEST), (before, server.descriptors())
    spent = {pid: cpu_seconds(pid) for pid in before}
    server.pause(1)
    assert all(cpu_seconds(pid) - spent[pid] < 0.5 for pid in before), "somebody spins"
    # They are those who were there before.
    assert len(server.started) == server.workers
    visit(server)


def visit_plainly(server: Server) -> None:
    """
    Make a request.
    """
    assert ask_once(server.target, OTHER).status == 200


def visit_on_tls(server: Server) -> None:
    """
    Make a request on TLS.
    """
    with Client(server.target, OTHER) as client:
        client.socket = client_context().wrap_socket(client.socket, server_hostname="localhost")
        assert client.ask(close=True).status == 200


def answers(*statuses: int) -> set[str]:
    """
    Outcomes that are answers.
    """
    return {f"answer {status}" for status in statuses}


def serve(start: Start, kind: str, *arguments: str) -> Server:
    """
    Start a server that has little patience.
    """
    patience = [f"--{name}-timeout" for name in ("sniff", "head", "body", "idle")]
    options = [each for name in patience for each in (name, str(TIMEOUT))]
    fixed = ("--affinity", AFFINITY, "--trust", PROXY)
    server = start(*KINDS[kind], *fixed, *options, *arguments, workers=2)
    server.allow("of the new connections have the affinity key")
    return server


@pytest.mark.parametrize("kind", ["resource", "asgi", pytest.param("wsgi", marks=pytest.mark.soak)])
def test_damaged_heads(kind: str, start: Start) -> None:
    """
    Damaged heads, of strangers and of a trusted proxy, are answered or closed in time, and do
    a server no harm.
    """
    server = serve(start, kind)
    check_unharmed(server, SHORT, HEADS, 1, answers(200, 400, 408, 505), visit_plainly)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_20000_damaged_heads(kind: str, start: Start) -> None:
    """
    The same with 20,000 of them.
    """
    server = serve(start, kind)
    check_unharmed(server, WHOLE, HEADS, 2, answers(200, 400, 408, 505), visit_plainly)


def test_damaged_proxy_headers(start: Start) -> None:
    """
    Damaged PROXY headers, with heads behind them, do a server no harm either.
    """
    server = serve(start, "resource", "--proxy-protocol", "on")
    server.allow("Connection of .* closed: ")
    seeds = [header.removesuffix(b"GET") + head for header in PROXY_HEADERS for head in HEADS[:3]]
    check_unharmed(server, SHORT, seeds, 3, answers(200, 400), visit_plainly)


def test_damaged_hellos(start: Start, tmp_path: Path) -> None:
    """
    Damaged ClientHellos do a server no harm that has the TLS.  All of these hang up, since the
    others have half a minute.
    """
    certificate = write_certificate(tmp_path, "server", "localhost")
    server = serve(start, "resource", "--tls", certificate)
    check_unharmed(
        server, SHORT, client_hellos(), 4, {"alert", "handshake", "closed"}, visit_on_tls, 0
    )
