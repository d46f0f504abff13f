"""
The HTTP server of the admin endpoint: what a stranger can have of it is little, and ends.
"""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from stickyd.admin.admin_token import new_token
from stickyd.admin.event_stream import STALL_SECONDS, EventStream
from stickyd.admin.guard import Guard
from stickyd.admin.leaf import STREAMS, Leaf, Tree, as_text, read_json
from stickyd.admin.site import (
    IDLE_SECONDS,
    LINGER_SECONDS,
    MOST_CONNECTIONS,
    REQUEST_SECONDS,
    AdminSite,
)
from stickyd.settings.admin_place import parse_admin_place
from tests.reactors import private_reactor, turn_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet.epollreactor import EPollReactor
    from typing_extensions import Self

ASK = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
ASK_LARGE = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
LISTEN = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE_BYTES = 300_000


class Endpoint:
    """
    A site on a reactor of its own, whose time passes by a clock.

    :ivar done: how often something was changed.
    """

    def __init__(self, reactor: EPollReactor, stack: ExitStack) -> None:
        self.reactor = reactor
        self.clock = Clock()
        self.done = 0
        self.streams: list[EventStream] = []
        self._stack = stack
        guard = Guard(parse_admin_place("--admin", "9100", False), (), new_token(), 9100)
        nothing = Leaf(guard, True)
        root = Tree(nothing)
        large = b"x" * LARGE_BYTES
        root.putChild(b"livez", Leaf(guard, True, GET=lambda request: as_text(request, "ok\n")))
        root.putChild(b"large", Leaf(guard, True, GET=lambda request: large))
        root.putChild(b"events", Leaf(guard, True, GET=self._listen))
        root.putChild(b"change", Leaf(guard, True, POST=self._change))
        self.site = AdminSite(root, self.clock)
        self._port: Any = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        stack.callback(self._port.stopListening)

    def _listen(self, request: Any) -> bytes:
        assert self.site.stream(request.channel)
        self.streams.append(EventStream(request, self.clock, lambda _: self.site.stream_ended()))
        return STREAMS

    def _change(self, request: Any) -> bytes:
        read_json(request)
        self.done += 1
        return b""

    def connect(self) -> Asker:
        """
        Make a client.
        """
        sock = socket.create_connection(("127.0.0.1", self._port.getHost().port), 60)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._stack.enter_context(Asker(self.reactor, sock))

    @property
    def open(self) -> int:
        """
        How many connections are counted.
        """
        return len(self.site._open)


class Asker:
    """
    A client of an endpoint.

    :ivar heard: what it was told.
    :ivar ended: whether the connection has ended.
    """

    def __init__(self, reactor: EPollReactor, sock: socket.socket) -> None:
        self._reactor = reactor
        self._socket = sock
        self.heard = b""
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def send(self, data: bytes | memoryview) -> int:
        """
        Send what there is room for.

        :return: how much; of a connection that has ended all, in vain.
        """
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            return len(data)

    def read_some(self) -> bool:
        """
        Read.

        :return: whether there was anything, were it the end.
        """
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        self.heard += data
        self.ended = not data
        return True

    def read(self) -> None:
        """
        Read what is there.
        """
        while not self.ended and self.read_some():
            pass

    def hears(self, what: bytes) -> bool:
        """
        Read, and say whether that has come.
        """
        self.read()
        return what in self.heard

    def is_closed(self) -> bool:
        """
        Read, and say whether the connection has ended.
        """
        self.read()
        return self.ended

    def ask(self) -> None:
        """
        Ask, and wait for the answer.
        """
        self.heard = b""
        self.send(ASK)
        turn_until(self._reactor, lambda: self.hears(b"\r\n\r\nok\n"))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """
    A site that answers.
    """
    with private_reactor() as reactor, ExitStack() as stack:
        yield Endpoint(reactor, stack)


def test_a_head_that_comes_byte_by_byte_is_answered_or_ends(endpoint: Endpoint) -> None:
    """
    However slowly it comes, the connection ends when its time is over, though it is never idle;
    and nothing is logged of it.
    """
    quick = endpoint.connect()
    for byte in ASK:
        quick.send(bytes([byte]))
        endpoint.reactor.iterate(0)
    turn_until(endpoint.reactor, lambda: quick.hears(b"ok\n"))
    with capturedLogs() as told:
        slow = endpoint.connect()
        turn_until(endpoint.reactor, lambda: endpoint.open == 2)
        for _ in range(int(REQUEST_SECONDS) - 1):
            slow.send(b"G")
            endpoint.reactor.iterate(0)
            endpoint.clock.advance(1)
        assert not slow.is_closed()
        endpoint.clock.advance(1)
        turn_until(endpoint.reactor, slow.is_closed)
    assert told == []
    turn_until(endpoint.reactor, lambda: endpoint.open == 0)


def test_who_says_nothing_ends_and_who_asks_lasts(endpoint: Endpoint) -> None:
    """
    A connection without a byte is closed sooner; one that asks now and then is kept.
    """
    silent, scraper = endpoint.connect(), endpoint.connect()
    for _ in range(10):
        scraper.ask()
        endpoint.clock.advance(IDLE_SECONDS - 1)
        scraper.ask()
    turn_until(endpoint.reactor, silent.is_closed)
    assert not scraper.is_closed()


def test_who_does_not_read_ends(endpoint: Endpoint) -> None:
    """
    Requests one behind the other whose answers are not read: no more of them are answered than
    find room, and the connection ends when its time is over.
    """
    client = endpoint.connect()
    flood = memoryview(ASK_LARGE * 5_000)
    for _ in range(300):
        flood = flood[client.send(flood) :]
        endpoint.reactor.iterate(0)
    endpoint.clock.advance(REQUEST_SECONDS)
    turn_until(endpoint.reactor, lambda: endpoint.open == 0)
    client.read()
    assert client.heard.count(b"HTTP/1.1 200 OK") < 50
    assert client.ended


def test_requests_behind_each_other_are_answered_in_turn(endpoint: Endpoint) -> None:
    """
    As long as the answers find room.
    """
    client = endpoint.connect()
    client.send(ASK * 20)
    turn_until(
        endpoint.reactor, lambda: client.hears(b"ok\n") and client.heard.count(b"ok\n") == 20
    )


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", b"400"),
        (b"GET /livez HTTP/2.0\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost localhost\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 4_000, b"400"),
        (b"GET /" + b"x" * 20_000, b"431"),
        (b"POST /change HTTP/1.1\r\nContent-Length: 9x\r\n\r\n", b"400"),
        (b"POST /change HTTP/1.1\r\nContent-Length: 99999\r\n\r\n{}", b"413"),
        (
            b"POST /change HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999\r\n\r\n",
            b"413",
        ),
        (
            b"POST /change HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            b"411",
        ),
        (b"POST /change HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_request_gets_one_line_and_nothing_after_it_counts(
    sent: bytes, status: bytes, endpoint: Endpoint
) -> None:
    """
    Whatever follows on the connection, there is one answer that says what is wrong, and
    a good request behind it is not carried out; the client may read why before the
    connection is closed, and cannot keep it open.
    """
    body = json.dumps({}).encode()
    good = (
        b"POST /change HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    client = endpoint.connect()
    for piece in (sent, b"\r\n\r\n", good, good * 100):
        left = memoryview(piece)
        while left:
            left = left[client.send(left) :]
            endpoint.reactor.iterate(0)
    turn_until(endpoint.reactor, client.is_closed)
    assert client.heard.startswith(b"HTTP/1.1 " + status)
    assert client.heard.count(b"\r\n\r\n") == 1
    assert json.loads(client.heard.partition(b"\r\n\r\n")[2])["error"]
    assert endpoint.open == 1
    endpoint.clock.advance(LINGER_SECONDS)
    turn_until(endpoint.reactor, lambda: endpoint.open == 0)
    assert endpoint.done == 0


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Host: \xff\xfe\r\n", b"403"),
        (b"Host: localhost\r\nHost: localhost\r\n", b"400"),
        (b"Host: localhost\r\nOrigin: \xff\r\n", b"403"),
        (b'Host: localhost\r\nContent-Type: \xff; x="\r\n', b"415"),
        (b'Host: localhost\r\nContent-Type: multipart/form-data; boundary="\r\n', b"415"),
        (b"Host: localhost\r\nContent-Type: application/json\r\n", b"200"),
    ],
)
def test_fields_of_any_bytes_are_no_error_of_ours(
    fields: bytes, status: bytes, endpoint: Endpoint
) -> None:
    """
    They are refused for what they say.
    """
    client = endpoint.connect()
    with capturedLogs() as told:
        client.send(b"POST /change HTTP/1.1\r\n" + fields + b"Content-Length: 2\r\n\r\n{}")
        turn_until(endpoint.reactor, lambda: client.hears(b"\r\n\r\n"))
    assert told == []
    assert client.heard.split()[1] == status


def test_paths_that_are_none_are_guarded_too(endpoint: Endpoint) -> None:
    """
    What is not there is told to whoever may ask at all.
    """
    client = endpoint.connect()
    for host, path, status in (
        (b"localhost", b"/nothing/at/all", b"404"),
        (b"evil.example", b"/nothing", b"403"),
        (b"localhost", b"/", b"404"),
    ):
        client.heard = b""
        client.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host))
        turn_until(endpoint.reactor, lambda: client.hears(b"}\n"))
        assert client.heard.split()[1] in (status, b"405")


def test_many_connections_make_room_for_one_another(endpoint: Endpoint) -> None:
    """
    There are never more than so many; past it, those end that have asked for nothing for
    longest, and one that asks is kept.
    """
    asking = endpoint.connect()
    asking.ask()
    for number in range(MOST_CONNECTIONS + 100):
        endpoint.connect()
        endpoint.reactor.iterate(0)
        if number % 100 == 99:
            asking.ask()
            assert endpoint.open <= MOST_CONNECTIONS
    assert not asking.is_closed()
    turn_until(endpoint.reactor, lambda: endpoint.open == MOST_CONNECTIONS)


def test_streams_that_are_not_read_miss_events_and_end(endpoint: Endpoint) -> None:
    """
    What is kept for one that does not read is bounded; it misses what comes meanwhile, and ends
    after a while, while one that reads gets all.
    """
    deaf, reading = endpoint.connect(), endpoint.connect()
    for client in (deaf, reading):
        client.send(LISTEN)
    turn_until(endpoint.reactor, lambda: len(endpoint.streams) == 2)
    event = b"data: %b\n\n" % (b"y" * 10_000)
    for _ in range(1_000):
        for stream in endpoint.streams:
            stream.send(event)
        reading.heard = b""
        turn_until(endpoint.reactor, lambda: reading.hears(b"yy\n\n"))
    assert endpoint.site.streams == 2
    endpoint.clock.advance(STALL_SECONDS)
    turn_until(endpoint.reactor, lambda: endpoint.site.streams == 1)
    missed = 1_000
    while not deaf.ended:
        deaf.heard = b""
        deaf.read_some()
        missed -= deaf.heard.count(b"data")
    assert missed > 100
    endpoint.clock.advance(10 * REQUEST_SECONDS)
    endpoint.reactor.iterate(0)
    assert not reading.is_closed()
    for stream in endpoint.streams:
        stream.close()
    turn_until(endpoint.reactor, lambda: endpoint.site.streams == 0)
