"""
100 clients behind a real proxy that keeps its connections: each has its worker and its answers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client
from tests.system.interleaved import Crowd, connections_to
from tests.system.placing import rendezvous
from tests.system.proxies import haproxy, nginx

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start

HERE = "tests.system.frameworks.echoes"
KINDS = {
    "resource": ("--resource", f"{HERE}:resource"),
    "asgi": ("--asgi", f"{HERE}:asgi"),
    "wsgi": ("--wsgi", f"{HERE}:wsgi"),
}
CLIENTS = 100
WORKERS = 4

#: How many connections nginx keeps, which is how many are in use at a time at most.
KEPT = 6

#: How many connections it makes: those, and a new one after every 1,000 requests on one, and
#: in the place of one that a large answer has left too late.
FEW = 60

#: Requests of the short form, and of the whole.
SHORT = 600
WHOLE = 10_000

TRUSTED = ("--trust", "127.0.0.1")

#: HAProxy gives a free connection to any client, if it may.
REUSE = "    http-reuse always"


def ask_through_nginx(
    kind: str, affinity: str, requests: int, start: Start, directory: Path
) -> Crowd:
    """
    Have 100 clients ask through nginx, and check all but who was to answer whom.
    """
    server = start(*KINDS[kind], "--affinity", affinity, *TRUSTED, workers=WORKERS)
    with (
        nginx(directory, server.target, KEPT) as proxy,
        Crowd(CLIENTS, proxy.target) as crowd,
    ):
        crowd.ask(requests, threads=KEPT)
        assert KEPT <= connections_to(server.port) <= FEW
    assert sum(visitor.asked for visitor in crowd.visitors) == requests
    assert all(visitor.host == visitor.source for visitor in crowd.visitors if visitor.asked)
    log = (directory / "error.log").read_text()
    assert not re.search(r"\[(error|crit|alert|emerg)\]", log), log
    crowd.check_everybody_stayed(WORKERS)
    return crowd


def check_cookies(crowd: Crowd) -> None:
    """
    Check that each client was answered by the worker that its cookie names.
    """
    for visitor in crowd.visitors:
        if visitor.asked:
            assert visitor.cookie.startswith(f"{next(iter(visitor.slots))}.")


def check_addresses(crowd: Crowd) -> None:
    """
    Check that each client was answered by the worker that its address belongs to.
    """
    for visitor in crowd.visitors:
        if visitor.asked:
            assert set(visitor.slots) == {rendezvous(visitor.source, WORKERS)}


def test_10000_requests_by_cookie(start: Start, tmp_path: Path) -> None:
    """
    10,000 requests of 100 clients, mixed on few connections: nobody is on two workers or gets
    another's answer, and bodies of up to 10 MB arrive as they were sent, both ways.
    """
    crowd = ask_through_nginx("resource", "cookie:stickyd", WHOLE, start, tmp_path)
    check_cookies(crowd)


@pytest.mark.parametrize(
    ("kind", "by"),
    # The long form has all of them.
    [("resource", "address"), ("asgi", "cookie"), ("wsgi", "cookie")],
)
def test_requests_of_every_kind(kind: str, by: str, start: Start, tmp_path: Path) -> None:
    """
    The same of every kind of application, by the cookie or by the address that nginx tells,
    with fewer requests.
    """
    check_kind(kind, by, SHORT, start, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["cookie", "address"])
def test_10000_requests_of_every_kind(kind: str, by: str, start: Start, tmp_path: Path) -> None:
    """
    The same of every kind of application, with all 10,000 requests.
    """
    check_kind(kind, by, WHOLE, start, tmp_path)


def check_kind(kind: str, by: str, requests: int, start: Start, directory: Path) -> None:
    """
    Have clients ask applications of a kind.
    """
    if by == "cookie":
        check_cookies(ask_through_nginx(kind, "cookie:stickyd", requests, start, directory))
    else:
        check_addresses(ask_through_nginx(kind, "ip", requests, start, directory))


@pytest.mark.parametrize("options", ["send-proxy", "send-proxy-v2"])
def test_requests_behind_proxy_headers(options: str, start: Start, tmp_path: Path) -> None:
    """
    HAProxy, which reuses connections only where the PROXY header stays true, brings each
    client to its worker, and to no other's answers.
    """
    arguments = (*KINDS["resource"], *TRUSTED, "--proxy-protocol", "on")
    server = start(*arguments, workers=WORKERS)
    with (
        haproxy(tmp_path, server.target, "http", options, REUSE) as proxy,
        Crowd(CLIENTS, proxy.target) as crowd,
    ):
        crowd.ask(SHORT)
        crowd.check_everybody_stayed(WORKERS)
    check_addresses(crowd)


def test_a_proxy_that_is_not_trusted_is_noticed(start: Start, tmp_path: Path) -> None:
    """
    nginx, which keeps its connections, makes few: so it is seen by its requests that it stands for
    all clients, and the log says once what to write.
    """
    server = start("--resource", "tests.system.apps:site", "--heartbeat", "0.1", workers=2)
    server.allow("have the affinity key of", "nobody is trusted")
    line = r"\d+% of the requests have the affinity key of 127\.0\.0\.1, so one .* by --trust"
    with nginx(tmp_path, server.target, KEPT) as proxy:
        for _ in range(100):
            told = bool(server.log.found(line))
            with Client(proxy.target) as client:
                for _ in range(300):
                    client.ask("/mirror")
            if told:
                break  # and the same went on, once more
    assert len(server.log.found("have the affinity key of")) == 1
    assert len(server.log.found("nobody is trusted to write that: if they come from your")) == 1


def test_requests_behind_haproxy(start: Start, tmp_path: Path) -> None:
    """
    HAProxy, which sends everybody down whatever connection is free, and says in
    X-Forwarded-For who it is, brings each client to its worker, and to no other's answers.
    """
    server = start(*KINDS["resource"], *TRUSTED, workers=WORKERS)
    defaults = f"{REUSE}\n    option forwardfor"
    with (
        haproxy(tmp_path, server.target, "http", defaults=defaults) as proxy,
        Crowd(CLIENTS, proxy.target) as crowd,
    ):
        crowd.ask(SHORT)
        assert connections_to(server.port) <= FEW
        crowd.check_everybody_stayed(WORKERS)
    check_addresses(crowd)
