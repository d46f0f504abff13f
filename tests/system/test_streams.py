"""
Clients that wait, to whom a server listens or says what it must: those that ask no more
(fault 37), those that are refused while they send (fault 43), those of a stream at a stop
(fault 44).
"""

from __future__ import annotations

import signal
import socket
import ssl
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tests.system.streams import ANSWER, EVENT
from tests.tls_harness import client_context, write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.gate import Gate
    from tests.system.server import Server

APPLICATIONS = [
    (f"--{kind}", f"tests.system.streams:{kind}") for kind in ("resource", "asgi", "wsgi")
]

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


@contextmanager
def connected(server: Server, secure: bool = False) -> Iterator[socket.socket]:
    """
    Connect.
    """
    with socket.create_connection(server.target, timeout=60) as sock:
        if not secure:
            yield sock
            return
        with client_context().wrap_socket(sock) as wrapped:
            yield wrapped


def read_to_end(sock: socket.socket) -> bytes:
    """
    Read all that comes; a reset is an error.
    """
    read = bytearray()
    while True:
        try:
            data = sock.recv(65536)
        except ssl.SSLEOFError:
            data = b""
        if not data:
            return bytes(read)
        read += data


@pytest.mark.parametrize("application", APPLICATIONS)
def test_fault_37_answer_to_who_asks_no_more(
    start: Start, gate: Gate, application: tuple[str, str]
) -> None:
    """
    Fault 37: an answer that takes its time, and is long, comes whole.
    """
    server = start(*application, variables=gate.variables)
    with connected(server) as sock:
        sock.sendall(GET % b"/held")
        sock.shutdown(socket.SHUT_WR)
        gate.wait_for_arrival()
        gate.open()
        answer = read_to_end(sock)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.replace(b"\r\n", b"").count(b"answer") >= len(ANSWER) / 6 - 100


def test_fault_37_download_of_who_asks_no_more(start: Start, tmp_path: Path) -> None:
    """
    Fault 37: a download is not cut.
    """
    content = b"0123456789" * 2_000_000
    (tmp_path / "file").write_bytes(content)
    server = start("--static", str(tmp_path))
    for version in (b"1.0", b"1.1"):
        with connected(server) as sock:
            sock.sendall(b"GET /file HTTP/%b\r\nHost: a\r\n\r\n" % version)
            sock.shutdown(socket.SHUT_WR)
            assert read_to_end(sock).partition(b"\r\n\r\n")[2] == content


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("application", APPLICATIONS)
@pytest.mark.parametrize("chunked", [False, True])
def test_fault_43_refusal_reaches_who_is_sending(
    start: Start, tmp_path: Path, application: tuple[str, str], secure: bool, chunked: bool
) -> None:
    """
    Fault 43: a client that sends all of a body that is too large, and reads then, gets the 413.
    """
    more = ["--tls", write_certificate(tmp_path, "a", "a.test")] if secure else []
    server = start(*application, *more, "--body-bytes", "1000", workers=1)
    megabyte = bytes(1 << 20)
    with connected(server, secure) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n")
        if chunked:
            sock.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        else:
            sock.sendall(b"Content-Length: %d\r\n\r\n" % (32 << 20))
        for _ in range(32):
            sock.sendall(b"100000\r\n%b\r\n" % megabyte if chunked else megabyte)
        assert read_to_end(sock).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", [b"/events", b"/deaf"])
@pytest.mark.parametrize("application", APPLICATIONS)
def test_fault_44_stop_does_not_wait_for_streams(
    start: Start, application: tuple[str, str], path: bytes
) -> None:
    """
    Fault 44: at a stop an event stream has --stream-timeout, not --stop-timeout; its end is
    a whole one.
    """
    server = start(*application, "--stop-timeout", "600", "--stream-timeout", "0.2", workers=1)
    with connected(server) as sock:
        sock.sendall(GET % path)
        read = b""
        while EVENT not in read:
            read += sock.recv(65536)
        server.send(signal.SIGTERM)
        assert (read + read_to_end(sock)).endswith(b"\r\n0\r\n\r\n")
        assert server.wait_until_gone() == 0
    server.check_nothing_left()


@pytest.mark.parametrize("application", APPLICATIONS)
def test_fault_37_answer_over_tls(
    start: Start, gate: Gate, tmp_path: Path, application: tuple[str, str]
) -> None:
    """
    Fault 37: the same for a client that says close_notify and shuts its side.
    """
    server = start(
        *application,
        *("--tls", write_certificate(tmp_path, "a", "a.test"), "--http2", "off")[
            : 2 if application[0] == "--asgi" else 4
        ],
        variables=gate.variables,
    )
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing)
    with connected(server) as sock:

        def act(step: Callable[[], object]) -> object:
            while True:
                try:
                    result = step()
                except ssl.SSLWantReadError:
                    if outgoing.pending:
                        sock.sendall(outgoing.read())
                    data = sock.recv(65536)
                    if data:
                        incoming.write(data)
                    else:
                        incoming.write_eof()
                else:
                    return result

        act(tls.do_handshake)
        tls.write(GET % b"/held")
        with suppress(ssl.SSLWantReadError):
            tls.unwrap()
        sock.sendall(outgoing.read())
        sock.shutdown(socket.SHUT_WR)
        gate.wait_for_arrival()
        gate.open()
        answer = bytearray()
        with suppress(ssl.SSLZeroReturnError):
            while data := act(lambda: tls.read(65536)):
                answer += data  # type: ignore[arg-type]  # bytes
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(answer) > len(ANSWER)
