"""
One connection, many clients: each request is answered by the worker that owns its client.
"""

from __future__ import annotations

import signal
import socket
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.affinity.token import Signer
from stickyd.placement.rendezvous import Rendezvous
from tests.system.client import Client
from tests.system.placing import rendezvous, source_address
from tests.system.proxies import nginx
from tests.system.rehoming import (
    HOMES,
    KINDS,
    USERS,
    WORKERS,
    Answers,
    ask,
    ask_anew,
    every_channel,
    every_kind,
    heard,
    request,
    set_cookies,
    signalled,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start


def test_homes_differ() -> None:
    """
    The users of these tests belong to all workers.
    """
    assert set(HOMES.values()) == set(range(WORKERS))


@every_kind
def test_each_request_goes_home(kind: str, start: Start) -> None:
    """
    On one connection that is never closed, each request is answered by its user's worker.
    """
    server = start(*KINDS[kind], "--affinity", "header:X-User,ip", workers=WORKERS)
    with Client(server.target) as client:
        for number in range(48):
            user = USERS[number * 5 % len(USERS)]
            body = "x" * (number * 997 % 30000)
            assert ask(client, f"X-User: {user}", body=body)["slot"] == HOMES[user]
        # A request that says nothing is its address's.
        assert ask(client)["slot"] == rendezvous("127.0.0.1", WORKERS)


@every_channel
def test_pipelined_requests_go_home_in_order(kind: str, start: Start) -> None:
    """
    Requests that are sent all at once are answered in order, each by its user's worker.
    """
    server = start(*KINDS[kind], "--affinity", "header:X-User,ip", workers=WORKERS)
    with Client(server.target) as client:
        users = USERS * 2
        whole = b"".join(
            request(f"X-User: {user}", f"X-Id: {number}", body="b" * (number % 3 * 1000))
            for number, user in enumerate(users)
        )
        client.socket.sendall(whole)
        with closing(Answers(client)) as reader:
            answers = [reader.next() for _ in users]
    assert [answer["slot"] for answer in answers] == [HOMES[user] for user in users]
    assert [answer["id"] for answer in answers] == [str(number) for number in range(len(users))]


@every_channel
def test_chunked_bodies_end_where_they_end(kind: str, start: Start) -> None:
    """
    The head behind a chunked body is found, wherever the pieces are cut.
    """
    server = start(*KINDS[kind], "--affinity", "header:X-User,ip", workers=WORKERS)
    chunks = "4\r\nGET \r\n3;a=b\r\n/ H\r\n0\r\nTrailer: x\r\n\r\n"
    users = USERS[:6]
    whole = b"".join(
        request(f"X-User: {user}", "Transfer-Encoding: chunked", method="POST") + chunks.encode()
        for user in users
    )
    with Client(server.target) as client:
        for start_of_piece in range(0, len(whole), 37):
            client.socket.sendall(whole[start_of_piece : start_of_piece + 37])
        with closing(Answers(client)) as reader:
            assert [reader.next()["slot"] for _ in users] == [HOMES[user] for user in users]


@every_channel
def test_heads_byte_by_byte(kind: str, start: Start) -> None:
    """
    A head that comes byte by byte is looked at when it is whole.
    """
    server = start(*KINDS[kind], "--affinity", "header:X-User,ip", workers=WORKERS)
    with Client(server.target) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for user in USERS[:5]:
            for byte in request(f"X-User: {user}", body="body"):
                client.socket.sendall(bytes([byte]))
            assert heard(client)[0]["slot"] == HOMES[user]


@every_channel
def test_websocket_or_close_after_rehoming(kind: str, start: Start) -> None:
    """
    The last request of a connection, which closes it, is served at home like any other.
    """
    server = start(*KINDS[kind], "--affinity", "header:X-User,ip", workers=WORKERS)
    for user in USERS[:4]:
        with Client(server.target) as client:
            other = next(each for each in USERS if HOMES[each] != HOMES[user])
            assert ask(client, f"X-User: {other}")["slot"] == HOMES[other]
            assert ask(client, f"X-User: {user}", "Connection: close")["slot"] == HOMES[user]
            assert client.at_end()


# the cookie


@every_kind
def test_cookie_is_set_once_and_brings_its_client_home(kind: str, start: Start) -> None:
    """
    A client without the cookie gets one, which names the worker that answered; once
    it sends that, it gets no other and is served there, on whatever connection.
    """
    server = start(*KINDS[kind], "--affinity", "cookie:stickyd,ip", workers=WORKERS)
    homes = {}
    for number in range(12):
        with Client(server.target, source_address(number)) as client:
            client.socket.sendall(request())
            told, response = heard(client)
            value, _, attributes = set_cookies(response)["stickyd"].partition("; ")
            assert attributes == "Path=/; HttpOnly; SameSite=Lax"
            homes[value] = told["slot"]
            client.socket.sendall(request(f"Cookie: a=b; stickyd={value}"))
            told, response = heard(client)
            assert "stickyd" not in set_cookies(response)
    assert len(set(homes.values())) > 1
    with Client(server.target) as client:
        for _ in range(2):
            for value, slot in homes.items():
                client.socket.sendall(request(f"Cookie: stickyd={value}"))
                told, response = heard(client)
                assert told["slot"] == slot
                assert "stickyd" not in set_cookies(response)


def test_cookie_has_the_attributes_of_the_settings(start: Start) -> None:
    """
    Path, domain, SameSite, Secure and Max-Age are the operator's.
    """
    server = start(
        *KINDS["resource"],
        *("--affinity", "cookie:where,ip", "--cookie-path", "/app", "--cookie-domain"),
        *("example.com", "--cookie-samesite", "none", "--cookie-secure", "always"),
        *("--cookie-max-age", "60"),
    )
    with Client(server.target) as client:
        client.socket.sendall(request())
        _, response = heard(client)
    assert set_cookies(response)["where"].partition("; ")[2] == (
        "Path=/app; Domain=example.com; Max-Age=60; Secure; HttpOnly; SameSite=None"
    )


@every_channel
def test_forged_cookie_is_replaced(kind: str, start: Start) -> None:
    """
    A cookie that somebody else signed leads nowhere, and its client gets a good one.
    """
    server = start(*KINDS[kind], "--affinity", "cookie:stickyd,ip", workers=WORKERS)
    forger = Signer([b"somebody else's secret"])
    with Client(server.target) as client:
        for slot in range(WORKERS):
            client.socket.sendall(request(f"Cookie: stickyd={forger.mint(slot)}"))
            told, response = heard(client)
            assert told["slot"] == rendezvous("127.0.0.1", WORKERS)
            assert set_cookies(response)["stickyd"].startswith(f"{told['slot']}.")


# proxies


@every_channel
def test_clients_of_one_proxy_keep_apart(kind: str, start: Start, tmp_path: Path) -> None:
    """
    Behind nginx, which sends all down a few connections, each client keeps its worker, and
    newcomers spread over all of them.
    """
    server = start(
        *KINDS[kind], "--affinity", "cookie:stickyd", "--trust", "127.0.0.1", workers=WORKERS
    )
    with nginx(tmp_path, server.target) as proxy:
        homes: dict[str, int] = {}
        for number in range(24):
            with Client(proxy.target, source_address(number)) as client:
                client.socket.sendall(request())
                told, response = heard(client)
                assert told["host"] == source_address(number)
                value = set_cookies(response)["stickyd"].partition(";")[0]
                homes[value] = told["slot"]
            for known, slot in list(homes.items())[-3:]:
                assert ask_anew(proxy.target, f"Cookie: stickyd={known}")["slot"] == slot
    assert set(homes.values()) == set(range(WORKERS)), Counter(homes.values())


@every_channel
def test_address_that_a_trusted_proxy_tells(kind: str, start: Start) -> None:
    """
    On one connection of a trusted proxy each client's address counts: for the worker, and
    as what the application sees, with the scheme.
    """
    server = start(*KINDS[kind], "--trust", "127.0.0.1", workers=WORKERS)
    with Client(server.target) as client:
        for number in range(16):
            source = f"198.51.100.{number}"
            scheme = "https" if number % 2 else "http"
            told = ask(client, f"X-Forwarded-For: {source}", f"X-Forwarded-Proto: {scheme}")
            assert told["slot"] == rendezvous(source, WORKERS)
            assert (told["host"], told["secure"]) == (source, scheme == "https")
        assert ask(client)["host"] == "127.0.0.1"


@every_channel
def test_address_that_a_stranger_tells(kind: str, start: Start) -> None:
    """
    What a peer says who is not trusted is for nothing.
    """
    server = start(*KINDS[kind], "--trust", "192.0.2.1", workers=WORKERS)
    with Client(server.target) as client:
        told = ask(client, "X-Forwarded-For: 198.51.100.1", "X-Forwarded-Proto: https")
    assert told == {
        "slot": rendezvous("127.0.0.1", WORKERS),
        "host": "127.0.0.1",
        "secure": False,
        "id": None,
    }


# ids that the application mints


@every_channel
def test_stamped_ids(kind: str, start: Start) -> None:
    """
    The client gets the application's id with a stamp, and comes home with it; the
    application sees its own id, and nothing of the stamp.
    """
    server = start(*KINDS[kind], "--affinity", "stamp:X-Id", workers=WORKERS)
    minted = {}
    for _ in range(8):
        with Client(server.target) as client:
            client.socket.sendall(request(path="/mint"))
            told, response = heard(client)
            stamped = response.getheader("X-Id")
            assert stamped is not None
            assert stamped.startswith(told["id"] + f".{told['slot']}.")
            minted[stamped] = told["id"], told["slot"]
    assert len({slot for _, slot in minted.values()}) > 1
    with Client(server.target) as client:
        for stamped, (identifier, slot) in [*minted.items()] * 2:
            told = ask(client, f"X-Id: {stamped}")
            assert (told["id"], told["slot"]) == (identifier, slot)


@every_channel
@pytest.mark.parametrize("where", ["header:X-Id", "cookie:id", "query:sid"])
def test_learned_ids(kind: str, where: str, start: Start) -> None:
    """
    Who brings an id that a worker has minted is served there at once: on a new connection,
    and on one that carries others too.
    """
    server = start(*KINDS[kind], "--affinity", f"learn:{where}", workers=WORKERS)

    def bearing(identifier: str) -> tuple[tuple[str, ...], str]:
        if where.startswith("header"):
            return (f"X-Id: {identifier}",), "/"
        if where.startswith("cookie"):
            return (f"Cookie: id={identifier}",), "/"
        return (), f"/?sid={identifier}"

    minted = {}
    for _ in range(8):
        told = ask_anew(server.target, path="/claim" if "query" in where else "/mint")
        fields, path = bearing(told["id"])
        # At once: the primary knew before the client.
        assert ask_anew(server.target, *fields, path=path)["slot"] == told["slot"]
        minted[told["id"]] = told["slot"]
    assert len(set(minted.values())) > 1
    with Client(server.target) as client:
        for identifier, slot in [*minted.items()] * 3:
            fields, path = bearing(identifier)
            assert ask(client, *fields, path=path)["slot"] == slot


def test_id_that_nobody_minted(start: Start) -> None:
    """
    An unknown id does not keep a request from being answered, nor send it in circles.
    """
    server = start(*KINDS["asgi"], "--affinity", "learn:header:X-Id,ip", workers=WORKERS)
    with Client(server.target) as client:
        for number in range(8):
            told = ask(client, f"X-Id: unknown{number}")
            assert told["slot"] == rendezvous("127.0.0.1", WORKERS)


# changes


@every_kind
def test_connection_outlives_a_reload(kind: str, start: Start) -> None:
    """
    After a reload the fresh workers know whom requests belong to, on the same connection.
    """
    server = start(*KINDS[kind], "--affinity", "header:X-User,ip", workers=WORKERS)
    with Client(server.target) as client:
        for user in USERS:
            assert ask(client, f"X-User: {user}")["slot"] == HOMES[user]
        server.reload()
        for user in USERS:
            assert ask(client, f"X-User: {user}")["slot"] == HOMES[user]


@every_channel
def test_connection_follows_a_resize(kind: str, start: Start) -> None:
    """
    When a slot is added, those who belong there now are served there, on the same
    connection.
    """
    server = start(*KINDS[kind], "--affinity", "header:X-User,ip", workers=WORKERS)
    with Client(server.target) as client:
        assert ask(client, f"X-User: {USERS[0]}")["slot"] == HOMES[USERS[0]]
        signalled(server, signal.SIGTTIN, "Resized from")
        after = Rendezvous(WORKERS + 1)
        for user in USERS:
            assert ask(client, f"X-User: {user}")["slot"] == after.slot_of(user.encode())


def test_sessions_follow_those_whose_slot_is_gone(start: Start) -> None:
    """
    When a slot is taken away, the clients whose cookie names it go where their sessions
    went, and get cookies that name the slot there; the others stay.
    """
    server = start(*KINDS["resource"], "--affinity", "cookie:stickyd", workers=WORKERS)
    homes = {}

    def visit(cookies: str) -> tuple[dict[str, Any], dict[str, str]]:
        with Client(server.target) as client:
            client.socket.sendall(request(f"Cookie: {cookies}", path="/visits"))
            told, response = heard(client)
        return told, set_cookies(response)

    for _ in range(16):
        told, found = visit("a=b")
        cookies = "; ".join(f"{name}={value.partition(';')[0]}" for name, value in found.items())
        homes[cookies] = told["slot"]
    assert set(homes.values()) == set(range(WORKERS))
    signalled(server, signal.SIGTTOU, "Resized from")
    for cookies, slot in homes.items():
        told, found = visit(cookies)
        assert told["id"] == 2
        if slot < WORKERS - 1:
            assert (told["slot"], found) == (slot, {})
        else:
            assert found["stickyd"].startswith(f"{told['slot']}.")
