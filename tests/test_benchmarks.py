from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from typing_extensions import Self

from benchmarks import keeping
from benchmarks.compiling import compile_c, compile_load
from benchmarks.generator import IdleConnections, Load, Outcome, run_load
from benchmarks.processes import cpu_seconds, proportional_kib
from benchmarks.starting import Start, table

Answer = Callable[[str, int], "bytes | None"]
"""
From a source and the number of its request (from 1), the response; with none, the server
resets the connection.  It closes after what says so, or says nothing.
"""

CLOSE = b"Connection: close\r\n"
OPENING = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: %s\r\n\r\n"
KEY_ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3
PING, PONG = b"\x89\x02hi", b"\x8a\x82\0\0\0\0hi"


def said(pid: int, hits: int, headers: bytes = CLOSE, status: bytes = b"200 OK") -> bytes:
    """
    The demonstration's answer.
    """
    body = b"Worker %d session hits: %d\n" % (pid, hits)
    length = b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + headers + length + b"\r\n" + body


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    The load generator.
    """
    return compile_load(tmp_path_factory.mktemp("load"))


class Server:
    """
    A plain server, one thread a connection, for the time of a ``with`` block.
    """

    def __init__(self, answer: Answer, and_then: Callable[[socket.socket], None] | None = None):
        self._answer, self._and_then = answer, and_then
        self._hits: Counter[str] = Counter()
        self.cookies: dict[str, list[bytes]] = {}
        self._threads: list[threading.Thread] = []
        self.peers: list[tuple[str, int]] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread, as a close would not
        self._accepting.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, (source, port) = self._listener.accept()
                self.peers.append((source, port))
                thread = threading.Thread(target=self._serve, args=(connection, source))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket, source: str) -> None:
        with connection, connection.makefile("rb") as lines, contextlib.suppress(ConnectionError):
            while head := list(iter(lambda: lines.readline().rstrip(), b"")):
                cookies = [line for line in head if line.startswith(b"Cookie:")]
                self.cookies.setdefault(source, []).extend(cookies or [b""])
                self._hits[source] += 1  # a source has one request under way at a time
                response = self._answer(source, self._hits[source])
                if response is None:
                    reset = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                    return
                connection.sendall(response)
                if self._and_then:
                    self._and_then(connection)
                if CLOSE in response or not response:
                    return


LOAD = Load(0, connections=4, sources=8, seconds=60, requests=200)


def loaded(program: Path, answer: Answer, load: Load = LOAD) -> Outcome:
    """
    Start a server, load it until all requests have ended, and stop it.
    """
    with Server(answer) as server:
        return run_load(program, dataclasses.replace(load, port=server.port))


def test_sticky_server_passes(program: Path) -> None:
    """
    A server that keeps each source in one process, counting right, is found sticky.
    """
    outcome = loaded(program, lambda source, hits: said(len(source), hits))
    assert (outcome.begun, outcome.answered, outcome.errors) == (200, 200, {})
    assert outcome.opened == 200
    assert outcome.stickiness.holds
    assert outcome.stickiness.order_checked == 200 - 8


def test_moved_source_is_found(program: Path, tmp_path: Path) -> None:
    """
    One answer from another process makes the verdict fail, and the ledger tells whose.
    """
    outcome = loaded(
        program,
        lambda source, hits: said(1 + (source == "127.1.3.1" and hits == 5), hits),
        dataclasses.replace(LOAD, ledger=tmp_path / "ledger"),
    )
    assert not outcome.stickiness.holds
    assert (outcome.stickiness.moved_sources, outcome.stickiness.moves) == (1, 2)
    first, second = map(json.loads, (tmp_path / "ledger").read_text().splitlines())
    assert (first["event"], first["source"], first["last_pid"], first["pid"]) == (
        "moved", "127.1.3.1", 1, 2,
    )  # fmt: skip
    assert (second["last_pid"], second["pid"]) == (2, 1)


@pytest.mark.parametrize("off", [-1, -2, 1])
def test_wrong_count_is_found(program: Path, off: int) -> None:
    """
    A count that repeats, falls or skips is found, and so is the return to the right one.
    """

    def answer(source: str, hits: int) -> bytes:
        return said(1, hits + off if (source, hits) == ("127.1.2.1", 7) else hits)

    outcome = loaded(program, answer)
    assert not outcome.stickiness.holds
    assert outcome.stickiness.order_wrong == 2


@pytest.mark.parametrize(
    ("response", "kind", "state"),
    [
        (None, "reset", "sent"),
        (b"", "cut_short", "sent"),
        (b"HTTP/1.1 200 OK\r\n" + CLOSE, "cut_short", "partial"),
        (said(1, 2)[:-3], "cut_short", "partial"),
        (said(1, 2) + b"more", "malformed", "partial"),
        (b"SSH-2.0-server\r\n" + CLOSE, "malformed", "partial"),
        (said(1, 2, status=b"503 Service Unavailable"), "bad_status", "partial"),
    ],
)
def test_failure_is_recorded(
    program: Path, tmp_path: Path, response: bytes | None, kind: str, state: str
) -> None:
    """
    A failed request is counted by kind; its ledger line tells how far it had come, and on
    which connection.

    As the server may have counted it, the next count may be one higher without being wrong.
    """

    def answer(source: str, hits: int) -> bytes | None:
        return response if (source, hits) == ("127.1.4.1", 2) else said(1, hits)

    began = time.monotonic()
    with Server(answer) as server:
        load = dataclasses.replace(LOAD, ledger=tmp_path / "ledger", port=server.port)
        outcome = run_load(program, load)
    assert outcome.failures == {kind: 1}
    assert outcome.failed_in == {state: 1}
    assert (outcome.begun, outcome.answered) == (200, 199)
    assert outcome.stickiness.holds
    (line,) = map(json.loads, (tmp_path / "ledger").read_text().splitlines())
    assert (line["event"], line["source"], line["kind"]) == ("failed", "127.1.4.1", kind)
    assert (line["state"], line["last_pid"], line["last_hits"]) == (state, 1, 1)
    # The connection is known by name, and its times by the clock of the whole machine.
    assert ("127.1.4.1", line["port"]) in server.peers
    assert began <= line["opened_us"] / 1e6 <= line["failed_us"] / 1e6 <= time.monotonic()


def test_refused_connection_is_recorded(program: Path) -> None:
    """
    Where nobody listens every request fails at the connect.
    """
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        load = Load(bound.getsockname()[1], connections=2, sources=2, seconds=60, requests=10)
        outcome = run_load(program, load)
    assert outcome.failures == {"refused": 10}
    assert outcome.failed_in == {"connect": 10}
    assert not outcome.stickiness.holds


def test_silent_server_times_out(program: Path) -> None:
    """
    A server that keeps the connection and never answers is given up.
    """
    silent = threading.Event()

    def answer(_source: str, _hits: int) -> bytes:
        silent.wait(60)
        return b""

    with Server(answer) as server:
        load = Load(server.port, connections=1, sources=1, seconds=60, requests=1, timeout_ms=50)
        try:
            outcome = run_load(program, load)
        finally:
            silent.set()
    assert outcome.failures == {"timeout": 1}
    assert outcome.failed_in == {"sent": 1}


def test_keepalive_uses_a_connection_again(program: Path) -> None:
    """
    In keepalive mode a connection carries as many requests as was asked for.
    """
    outcome = loaded(
        program,
        lambda _source, hits: said(1, hits, headers=b""),
        dataclasses.replace(LOAD, mode="keepalive", per_connection=10, connections=1),
    )
    assert (outcome.answered, outcome.opened, outcome.errors) == (200, 20, {})
    assert outcome.stickiness.holds


@pytest.mark.parametrize("mode", ["close", "keepalive"])
def test_cookie_is_sent_back(program: Path, mode: str) -> None:
    """
    Each source sends the cookie that it was given last, its own one and the named one only.
    """

    def answer(source: str, hits: int) -> bytes:
        given = b"Set-Cookie: other=x\r\nSet-Cookie: here=%b-%d; Path=/\r\n"
        headers = CLOSE if mode == "close" else b""
        if hits in (1, 3):
            headers += given % (source.encode(), hits)
        return said(1, hits, headers)

    load = dataclasses.replace(LOAD, mode=mode, per_connection=3, requests=160, cookie="here")
    with Server(answer) as server:
        outcome = run_load(program, dataclasses.replace(load, port=server.port))
    assert (outcome.answered, outcome.errors) == (160, {})
    assert len(server.cookies) == 8
    for source, cookies in server.cookies.items():
        name = source.encode()
        first, later = b"Cookie: here=%b-1" % name, b"Cookie: here=%b-3" % name
        assert cookies[:4] == [b"", first, first, later]
        assert set(cookies[4:]) == {later}


def test_cookies_outlive_a_run(program: Path, tmp_path: Path) -> None:
    """
    With a jar the clients of the next run send the cookies that those of the last were given.
    """

    def answer(source: str, hits: int) -> bytes:
        given = CLOSE + (b"Set-Cookie: here=%b\r\n" % source.encode() if hits == 1 else b"")
        return said(1, hits, given)

    load = dataclasses.replace(LOAD, cookie="here", cookie_jar=tmp_path / "jar")
    with Server(answer) as server:
        load = dataclasses.replace(load, port=server.port)
        assert run_load(program, load).errors == {}
        server.cookies.clear()
        assert run_load(program, load).answered == 200
    for source, cookies in server.cookies.items():
        assert set(cookies) == {b"Cookie: here=" + source.encode()}


def test_response_without_length_is_read(program: Path) -> None:
    """
    Chunked bodies and bodies that end with the connection count as whole.
    """

    def answer(source: str, hits: int) -> bytes:
        body = b"Worker 1 session hits: %d\n" % hits
        if hits % 2:
            return b"HTTP/1.0 200 OK\r\n" + CLOSE + b"\r\n" + body
        chunks = b"5;x=y\r\n%s\r\n%x\r\n%s\r\n0\r\nT: x\r\n\r\n" % (
            body[:5], len(body) - 5, body[5:],
        )  # fmt: skip
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + CLOSE + b"\r\n" + chunks

    outcome = loaded(program, answer)
    assert (outcome.answered, outcome.errors) == (200, {})
    assert outcome.stickiness.holds


def test_more_connections_than_sources_are_refused(program: Path) -> None:
    """
    The generator refuses bounds under which a source would have two requests under way.
    """
    with pytest.raises(subprocess.CalledProcessError):
        run_load(program, Load(1, connections=3, sources=2))


def test_idle_websockets_answer_pings(program: Path) -> None:
    """
    Idle WebSockets are upgraded, held, and answer the server's pings.
    """
    pongs = threading.Semaphore(0)

    def ping(connection: socket.socket) -> None:
        connection.sendall(PING)
        if connection.recv(len(PONG), socket.MSG_WAITALL) == PONG:
            pongs.release()

    with Server(lambda _source, _hits: OPENING % KEY_ACCEPTED, ping) as server:
        load = Load(server.port, connections=2, sources=2, seconds=60)
        with IdleConnections(program, load, count=3, websocket=True) as crowd:
            assert (crowd.held.held, crowd.held.failed) == (3, 0)
            assert all(pongs.acquire(timeout=60) for _ in range(3))
    assert (crowd.held.lost, crowd.held.pings) == (0, 3)


def test_false_websocket_is_refused(program: Path) -> None:
    """
    An upgrade whose accept header does not fit the key is not held.
    """
    with Server(lambda _source, _hits: OPENING % b"bm90IG91ciBrZXk=") as server:
        load = Load(server.port, connections=2, sources=2, seconds=60)
        with IdleConnections(program, load, count=3, websocket=True) as crowd:
            assert (crowd.held.held, crowd.held.failures) == (0, {"bad_status": 3})


def test_compile_error_is_raised(tmp_path: Path) -> None:
    """
    A C file that does not compile raises, rather than leaving an old program in use.
    """
    (tmp_path / "bad.c").write_text("int main(void) { return nothing; }")
    with pytest.raises(subprocess.CalledProcessError):
        compile_c([tmp_path / "bad.c"], tmp_path / "bad")


def test_keeping_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """
    What the primary pays for clients that are kept is said in one run.
    """
    assert keeping.main(["--known", "1000", "--rounds", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("1,000 known keys: ")
    assert said.count("|") == 5 * 4


def test_starts_are_set_beside_one_another() -> None:
    """
    The table has each fleet's memory as a multiple of the one that is compared with, of as many
    workers.
    """
    ours = Start("stickyd", 2, [0.2, 0.4], 0.3, [20480, 10240], 61440, 0.0)
    theirs = Start("uvicorn", 2, [0.1, 0.1], 0.0, [10240, 10240], 40960, 0.5)
    others = Start("stickyd", 8, [0.2], 0.0, [20480], 90000, 0.0)
    lines = table([ours, theirs, others], "uvicorn").splitlines()[2:]
    assert lines[0] == "| stickyd | 2 | 0.30 | 0.20-0.40 | 0.30 | 15.0 | 60 | 1.50 | 0.00 |"
    assert lines[1] == "| uvicorn | 2 | 0.10 | 0.10-0.10 | 0.00 | 10.0 | 40 | 1.00 | 0.50 |"
    assert lines[2] == "| stickyd | 8 | 0.20 | 0.20-0.20 | 0.00 | 20.0 | 88 |  | 0.00 |"


def test_a_process_is_looked_at_in_parts() -> None:
    """
    What runs has memory and has used time; what there is not has neither.
    """
    assert proportional_kib(os.getpid()) > 0 < cpu_seconds(os.getpid())
    assert proportional_kib(2**22 + 1) == 0 == cpu_seconds(2**22 + 1)
