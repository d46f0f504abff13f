"""
WSGI applications over HTTP/2.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from twisted.internet.address import IPv4Address

from stickyd.handoff.frame import Flag, Handoff
from stickyd.net.twisted_transport import SocketTransport
from tests.hosting import until
from tests.serve.wsgi.scene import Scene, serving

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Environ = dict[str, Any]


class Browser:
    """
    A client that speaks HTTP/2, without TLS.
    """

    def __init__(self, scene: Scene, window: int = 65535) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self.socket = ours
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        if window > 65535:
            from h2.settings import SettingCodes

            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
            self.h2.increment_flow_control_window(window)
        self.bodies: dict[int, bytes] = {}
        self.statuses: dict[int, str] = {}
        self.informed: dict[int, str] = {}  # statuses before the response's
        self.fields: dict[int, dict[str, str]] = {}
        self.ended: dict[int, str] = {}
        peer = IPv4Address("TCP", "192.0.2.1", 1234)
        handoff = Handoff(theirs.fileno(), peer.host, peer.port, b"k", b"", Flag.SECURE)
        connection = scene.host._make_http2_connection(handoff, None)
        SocketTransport(scene.host._readiness, theirs, peer).start(connection)

    async def flush(self) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, self.h2.data_to_send())

    async def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> int:
        """
        Begin a request.
        """
        number = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "a")]
        self.h2.send_headers(number, fields, end_stream=body is None)
        await self.flush()
        if body is not None:
            while body:
                room = min(self.h2.local_flow_control_window(number), 16384)
                if not room:
                    await self.more()
                    continue
                self.h2.send_data(number, body[:room])
                body = body[room:]
                await self.flush()
            self.h2.end_stream(number)
            await self.flush()
        return number

    async def more(self) -> None:
        """
        Read something, and open the windows for more.
        """
        data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        assert data, "the connection has ended"
        for event in self.h2.receive_data(data):
            number = getattr(event, "stream_id", 0)
            if isinstance(event, ResponseReceived):
                self.fields[number] = {str(name): str(value) for name, value in event.headers or []}
                self.statuses[number] = self.fields[number][":status"]
            elif isinstance(event, InformationalResponseReceived):
                fields = {str(name): str(value) for name, value in event.headers or []}
                self.informed[number] = fields[":status"]
            elif isinstance(event, DataReceived):
                self.bodies[number] = self.bodies.get(number, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, number)
            elif isinstance(event, StreamEnded):
                self.ended[number] = "end"
            elif isinstance(event, StreamReset):
                self.ended.setdefault(number, f"reset {event.error_code}")
        await self.flush()

    async def answer(self, number: int) -> bytes:
        """
        Read a response to its end.
        """
        while number not in self.ended:
            await self.more()
        assert self.ended[number] == "end"
        return self.bodies.get(number, b"")


def test_requests_and_bodies() -> None:
    """
    Fault 32: also of unknown length; and many at once.
    """
    environs: list[Environ] = []

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        environs.append(environ)
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("X-Method", environ["REQUEST_METHOD"])])
        return [hashlib.sha256(body).hexdigest().encode()]

    with serving(application) as scene:

        async def go() -> None:
            browser = Browser(scene)
            for size in (None, 0, 5, 70_000, 3_000_000):
                body = None if size is None else bytes(size)
                number = await browser.ask("/a?b", "GET" if body is None else "POST", body)
                expected = hashlib.sha256(body or b"").hexdigest().encode()
                assert await browser.answer(number) == expected
                assert browser.statuses[number] == "200"
                assert browser.fields[number]["content-length"] == "64"
            numbers = [await browser.ask(f"/{n}") for n in range(50)]
            for number in numbers:
                await browser.answer(number)
            browser.socket.close()

        scene.run(go)
    first = environs[0]
    assert first["SERVER_PROTOCOL"] == "HTTP/2"
    assert first["wsgi.url_scheme"] == "http"
    assert (first["HTTP_HOST"], first["QUERY_STRING"]) == ("a", "b")
    assert first["REMOTE_ADDR"] == "192.0.2.1"
    assert environs[3]["CONTENT_LENGTH"] == "70000"


@pytest.mark.parametrize("window", [65535, 1 << 30])
def test_fault_33_who_stops_reading_stops_the_application(window: int) -> None:
    """
    Fault 33: also if the client's windows are as wide as they can be.
    """
    made: list[int] = []
    closed = threading.Event()

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            for number in range(10_000):
                made.append(number)
                yield bytes(65536)
        finally:
            closed.set()

    with serving(application) as scene:

        async def go() -> None:
            browser = Browser(scene, window)
            await browser.ask("/")
            before = -1
            while len(made) > before:
                before = len(made)
                await asyncio.sleep(0.1)
            assert len(made) < 200
            while len(made) == before:
                await browser.more()
            browser.socket.close()
            await until(closed.is_set)

        scene.run(go)


def test_fault_33_what_a_client_did_not_read_is_freed_when_it_leaves() -> None:
    """
    Fault 33: large pieces do not wait for Python's garbage collector.
    """
    made: list[int] = []
    freed: list[int] = []

    class Piece(bytes):
        def __del__(self) -> None:
            freed.append(1)

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        while True:
            made.append(1)
            yield Piece(200_000)

    with serving(application) as scene:

        async def go() -> None:
            browser = Browser(scene, 1 << 30)
            await browser.ask("/")
            await until(lambda: len(made) > 1)
            browser.socket.close()
            await until(lambda: len(freed) == len(made))

        gc.collect()
        gc.disable()
        try:
            scene.run(go)
        finally:
            gc.enable()


def test_fault_33_streams_that_were_reset_are_not_run() -> None:
    """
    Fault 33: a request whose client has given it up while it waited.
    """
    gate = threading.Event()
    run: list[str] = []

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        run.append(environ["PATH_INFO"])
        gate.wait()
        start_response("200 OK", [])
        return [b"ok"]

    with serving(application, threads=1) as scene:

        async def go() -> None:
            browser = Browser(scene)
            first = await browser.ask("/first")
            await until(lambda: run)
            numbers = [await browser.ask(f"/{n}") for n in range(10)]
            for number in numbers[:-1]:
                browser.h2.reset_stream(number)
            await browser.flush()
            jobs: Any = scene.host._backend.threads._jobs
            await until(lambda: sum(not call._receiver.gone for call in jobs) == 1)
            gate.set()
            assert await browser.answer(first) == b"ok"
            assert await browser.answer(numbers[-1]) == b"ok"
            browser.socket.close()

        scene.run(go)
    assert run == ["/first", "/9"]


def test_an_application_may_answer_before_it_has_read() -> None:
    """
    The client learns it, and need not send the rest.
    """

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("413 Content Too Large", [])
        return [b"no"]

    with serving(application) as scene:

        async def go() -> None:
            browser = Browser(scene)
            number = browser.h2.get_next_available_stream_id()
            fields = [(":method", "POST"), (":path", "/"), (":scheme", "https")]
            fields += [(":authority", "a"), ("content-length", "1000000")]
            browser.h2.send_headers(number, fields)
            browser.h2.send_data(number, b"x")
            await browser.flush()
            assert await browser.answer(number) == b"no"
            assert browser.statuses[number] == "413"
            browser.socket.close()

        scene.run(go)
