"""
Keys other than the socket's own address: what a request, a token or a proxy says.
"""

from __future__ import annotations

import signal
import socket
import struct
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from stickyd.affinity.token import Signer
from stickyd.placement.rendezvous import Rendezvous
from tests.system.client import Answer, Client, ask_once
from tests.system.placing import rendezvous, source_address
from tests.system.proxies import haproxy, nginx

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

MIRROR = ("--resource", "tests.system.apps:mirror")
WORKERS = 4
SOURCES = [source_address(number) for number in range(40)]
VALUES = [f"user{number}" for number in range(12)]
SECRET = b"a secret that is long enough"


def ask(
    server: Server, head: str = "", path: str = "/", source: str = "127.0.0.1", before: bytes = b""
) -> Answer:
    """
    Make a request on a connection of its own.

    :param head: more lines of its head.
    :param before: what is sent before it.
    """
    with Client(server.target, source) as client:
        client.socket.sendall(
            before
            + f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{head}Connection: close\r\n\r\n".encode()
        )
        return client.answer()


@pytest.mark.parametrize(
    ("entry", "head", "path"),
    [
        ("header:X-User", "X-User: {}\r\n", "/"),
        ("query:user", "", "/?user={}"),
        ("path:/room/([^/]+)", "", "/room/{}/x"),
        ("header:X-Absent,header:x-user", "x-user:{}\r\n", "/"),
    ],
)
def test_value_of_a_request_places_it(entry: str, head: str, path: str, start: Start) -> None:
    """
    A value is served by one worker, the one that the placement computes, from whatever address.
    """
    server = start(*MIRROR, "--affinity", f"{entry},ip", workers=WORKERS)
    placement = Rendezvous(WORKERS)
    expected = {value: placement.slot_of(value.encode()) for value in VALUES}
    assert len(set(expected.values())) == WORKERS
    for source in SOURCES[:3]:
        slots = {
            value: ask(server, head.format(value), path.format(value), source).told["slot"]
            for value in VALUES
        }
        assert slots == expected
    # Without a value the address counts.
    without = {source: ask(server, source=source).told["slot"] for source in SOURCES[:8]}
    assert without == {source: rendezvous(source, WORKERS) for source in SOURCES[:8]}


def test_head_in_pieces_is_placed_as_if_whole(start: Start) -> None:
    """
    It does not matter in how many pieces a head arrives, nor that the first is one byte.
    """
    server = start(*MIRROR, "--affinity", "header:X-User,ip", workers=WORKERS)
    placement = Rendezvous(WORKERS)
    for value in VALUES[:4]:
        with Client(server.target) as client:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in f"GET / HTTP/1.1\r\nHost: h\r\nX-User: {value}\r\n\r\n".encode():
                client.socket.sendall(bytes([byte]))
            assert client.answer().told["slot"] == placement.slot_of(value.encode())


def test_too_long_a_head_is_answered_by_its_worker(start: Start) -> None:
    """
    The primary cannot place it and says nothing: the answer is HTTP's own.
    """
    server = start(*MIRROR, "--affinity", "header:X-User,ip", "--head-bytes", "1000")
    # As HTTP/1.1 has it, no more than this is read of such a head.
    assert ask(server, "X-User: alice\r\nX-Long: " + "x" * 970 + "\r\n").status == 431
    assert ask(server, "X-User: alice\r\n").status == 200


def test_silent_clients_keep_nobody_waiting(start: Start) -> None:
    """
    As many silent clients as may wait, and more, take no one's turn; once they speak they
    are served like others.
    """
    options = ("--sniff-limit", "5")
    server = start(*MIRROR, "--affinity", "header:X-User,ip", *options)
    with ExitStack() as clients:
        silent = [clients.enter_context(Client(server.target)) for _ in range(10)]
        assert ask(server, "X-User: alice\r\n").status == 200
        assert [client.ask().status for client in silent] == [200] * 10


def test_waiting_client_outlives_the_primary(start: Start, tmp_path: Path) -> None:
    """
    Half a head, or half a PROXY header, is completed for the primary's successor.
    """
    path = secret_file(tmp_path, SECRET)
    server = start(
        *PROXIED, "--affinity", "cookie:stickyd,ip", "--secret-file", path, workers=WORKERS
    )
    head = f"GET / HTTP/1.1\r\nHost: h\r\nCookie: stickyd={Signer([SECRET]).mint(3)}\r\n\r\n"
    data = v1("198.51.100.1", 4711) + head.encode()
    with ExitStack() as clients:
        parts = [(clients.enter_context(Client(server.target)), end) for end in (9, 60)]
        for client, end in parts:
            client.socket.sendall(data[:end])
        server.process.send_signal(signal.SIGUSR2)
        server.log.wait_for(r"Primary \d+ running", count=2)
        server.log.wait_for("Reloaded: every worker is fresh")
        for client, end in parts:
            client.socket.sendall(data[end:])
            told = client.answer().told
            assert (told["host"], told["slot"]) == ("198.51.100.1", 3)


def secret_file(directory: Path, *secrets: bytes) -> str:
    """
    Write a file of secrets that only its owner can read.
    """
    path = directory / "secrets"
    path.touch(0o600)
    path.write_bytes(b"\n".join(secrets) + b"\n")
    return str(path)


def test_cookie_and_stamp_name_the_slot(start: Start, tmp_path: Path) -> None:
    """
    Tokens signed with any of the secrets lead to their slot, from whatever address.
    """
    old = b"an old secret of some length"
    server = start(
        *MIRROR,
        "--affinity",
        "cookie:stickyd,stamp:Mcp-Session-Id,ip",
        "--secret-file",
        secret_file(tmp_path, SECRET, old),
        workers=WORKERS,
    )
    for signer in (Signer([SECRET]), Signer([old])):
        for slot in range(WORKERS):
            cookie = f"Cookie: a=b; stickyd={signer.mint(slot)}\r\n"
            stamp = f"Mcp-Session-Id: {signer.stamp(b'abc', slot).decode()}\r\n"
            for source in SOURCES[:3]:
                assert ask(server, cookie, source=source).told["slot"] == slot
                assert ask(server, stamp, source=source).told["slot"] == slot


def test_token_that_counts_for_nothing_falls_through(start: Start, tmp_path: Path) -> None:
    """
    A forged cookie, or one of a slot that there is not, is no cookie: the address counts.
    """
    server = start(
        *MIRROR,
        "--affinity",
        "cookie:stickyd,ip",
        "--secret-file",
        secret_file(tmp_path, SECRET),
        workers=WORKERS,
    )
    forger = Signer([b"somebody else's long secret"])
    forged = [f"Cookie: stickyd={forger.mint(slot)}\r\n" for slot in range(WORKERS)]
    for head in [*forged, f"Cookie: stickyd={Signer([SECRET]).mint(WORKERS)}\r\n"]:
        for source in SOURCES[:4]:
            assert ask(server, head, source=source).told["slot"] == rendezvous(source, WORKERS)


def test_secret_does_not_show(start: Start, tmp_path: Path) -> None:
    """
    Nobody reads a secret off the command lines or the log.
    """
    path = secret_file(tmp_path, SECRET)
    server = start(*MIRROR, "--affinity", "cookie:stickyd,ip", "--secret-file", path)
    for pid in (server.pid, server.worker(0), server.worker(1)):
        with open(f"/proc/{pid}/cmdline", "rb") as line, open(f"/proc/{pid}/environ", "rb") as env:
            assert SECRET not in line.read() + env.read()
    assert SECRET.decode() not in server.log.text


def test_newcomers_of_one_address_spread(start: Start) -> None:
    """
    Where the address is no entry, clients behind one NAT go to all workers evenly.
    """
    server = start(*MIRROR, "--affinity", "cookie:stickyd", "--heartbeat", "60", workers=WORKERS)
    with ExitStack() as clients:
        open_clients = [clients.enter_context(Client(server.target)) for _ in range(16)]
        slots = Counter(client.ask().told["slot"] for client in open_clients)
    assert slots == dict.fromkeys(range(WORKERS), 4)


# proxies


def v2(source: str, port: int) -> bytes:
    """
    A PROXY header of version 2.
    """
    addresses = socket.inet_aton(source) + socket.inet_aton("192.0.2.1")
    body = addresses + struct.pack("!HH", port, 80)
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(body)) + body


def v1(source: str, port: int) -> bytes:
    """
    A PROXY header of version 1.
    """
    return f"PROXY TCP4 {source} 192.0.2.1 {port} 80\r\n".encode()


def is_cut_off(client: Client) -> bool:
    """
    Whether the connection ends without an answer.
    """
    try:
        return client.at_end()
    except ConnectionResetError:
        return True


PROXIED = (*MIRROR, "--trust", "127.0.0.1", "--proxy-protocol", "on")


@pytest.mark.parametrize("header", [v1, v2])
def test_proxy_header_of_a_trusted_peer_counts(header: object, start: Start) -> None:
    """
    Whom it names is the client, for the placement as for the application; the connection
    goes on behind it.
    """
    assert callable(header)
    server = start(*PROXIED, workers=WORKERS)
    for number in range(8):
        source = f"198.51.100.{number}"
        told = ask(server, before=header(source, 4000 + number)).told
        assert (told["host"], told["port"]) == (source, 4000 + number)
        assert told["slot"] == rendezvous(source, WORKERS)


def test_proxy_header_of_another_family_counts(start: Start) -> None:
    """
    An IPv6 client behind an IPv4 proxy is served as who it is.
    """
    server = start(*PROXIED)
    told = ask(server, before=b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n").told
    assert (told["host"], told["port"], told["kind"]) == ("2001:db8::7", 4711, "IPv6Address")


def test_proxy_header_is_a_matter_of_trust(start: Start) -> None:
    """
    A header from elsewhere, and a trusted peer without one, are closed; anybody else
    without one is a client of its own.
    """
    server = start(*PROXIED)
    server.allow("closed: a PROXY header from a peer outside --trust")
    with Client(server.target, "127.0.0.9") as client:
        client.socket.sendall(v1("198.51.100.1", 4000))
        client.send()
        assert is_cut_off(client)
    with Client(server.target, "127.0.0.1") as client:
        client.send()
        assert is_cut_off(client)
    assert ask(server, source="127.0.0.9").told["host"] == "127.0.0.9"


def test_forwarded_header_of_a_trusted_peer_counts(start: Start) -> None:
    """
    X-Forwarded-For places a trusted peer's request, and nobody else's.
    """
    server = start(*MIRROR, "--trust", "127.0.0.1", workers=WORKERS)
    for source in SOURCES[:8]:
        head = f"X-Forwarded-For: 203.0.113.1, {source}\r\n"
        assert ask(server, head).told["slot"] == rendezvous(source, WORKERS)
        distrusted = ask(server, head, source="127.0.0.250")
        assert distrusted.told["slot"] == rendezvous("127.0.0.250", WORKERS)


@pytest.mark.parametrize("options", ["send-proxy", "send-proxy-v2", "send-proxy-v2 check"])
def test_behind_haproxy_that_speaks_proxy(options: str, start: Start, tmp_path: Path) -> None:
    """
    HAProxy's PROXY headers say who its clients are; its health checks disturb nobody.
    """
    server = start(*PROXIED, workers=WORKERS)
    with haproxy(tmp_path, server.target, "tcp", options) as proxy:
        for source in SOURCES[:12]:
            with Client(proxy.target, source) as client:
                told = [client.ask().told for _ in range(3)]
            assert {each["host"] for each in told} == {source}
            assert {each["slot"] for each in told} == {rendezvous(source, WORKERS)}


def test_behind_haproxy_that_speaks_http(start: Start, tmp_path: Path) -> None:
    """
    HAProxy's X-Forwarded-For says who its clients are, on each connection of its own.
    """
    server = start(*MIRROR, "--trust", "127.0.0.1", workers=WORKERS)
    defaults = "    option forwardfor\n    http-reuse never"
    with haproxy(tmp_path, server.target, "http", defaults=defaults) as proxy:
        for source in SOURCES[:12]:
            with Client(proxy.target, source) as client:
                told = [client.ask().told for _ in range(3)]
            assert {each["slot"] for each in told} == {rendezvous(source, WORKERS)}


def test_behind_nginx(start: Start, tmp_path: Path) -> None:
    """
    Nginx's X-Forwarded-For says who its clients are; it keeps its connections alive.
    """
    server = start(*MIRROR, "--trust", "127.0.0.1", workers=WORKERS)
    with nginx(tmp_path, server.target) as proxy:
        source = SOURCES[5]
        told = [ask_once(proxy.target, source).told for _ in range(3)]
        assert {each["slot"] for each in told} == {rendezvous(source, WORKERS)}
