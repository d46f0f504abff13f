# mypy: allow-untyped-calls
# (h2 is not annotated throughout.)
"""
HTTP/2 with keys that stand in requests: a connection goes where its first request belongs.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)

from stickyd.placement.rendezvous import Rendezvous
from tests.system.client import Client
from tests.system.frameworks.tellers import LARGE
from tests.system.log import PATIENCE
from tests.system.processes import descriptors_of, eventually
from tests.tls_harness import client_context, write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

HERE = "tests.system.frameworks.tellers"
KINDS = {"resource": ("--resource", f"{HERE}:resource"), "wsgi": ("--wsgi", f"{HERE}:wsgi")}
WORKERS = 3
USERS = [f"user{number}" for number in range(9)]
HOMES = {user: Rendezvous(WORKERS).slot_of(user.encode()) for user in USERS}

every_kind = pytest.mark.parametrize("kind", KINDS)


class Enduring(H2Connection):
    """
    Goes on with what is under way when the server says GOAWAY, as clients do (RFC 9113,
    6.8); h2's own is closed by it.
    """

    def _receive_goaway_frame(self, frame: Any) -> Any:
        return [], [ConnectionTerminated()]


class H2Client:
    """
    One connection.

    :ivar ended: the code of each stream that the server has reset, or 0 for a whole response.
    """

    def __init__(self, server: Server, source: str = "127.0.0.1") -> None:
        plain = Client(server.target, source)
        context = client_context()
        context.set_alpn_protocols(["h2"])
        self._socket = context.wrap_socket(plain.socket, server_hostname="localhost")
        assert self._socket.selected_alpn_protocol() == "h2"
        self._connection = Enduring(H2Configuration(header_encoding="utf-8"))
        self._connection.initiate_connection()
        self._heads: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytes] = {}
        self.ended: dict[int, int] = {}
        self._left = False

    def send(self, *fields: tuple[str, str], path: str = "/", body: bytes = b"") -> int:
        """
        Begin a request.

        :return: its stream.
        """
        connection = self._connection
        stream: int = connection.get_next_available_stream_id()
        head = [(":method", "POST" if body else "GET"), (":scheme", "https"),
                (":authority", "localhost"), (":path", path), *fields]  # fmt: skip
        connection.send_headers(stream, head, end_stream=not body)
        while body:
            room = min(connection.local_flow_control_window(stream), 16384)
            if room:
                connection.send_data(stream, body[:room], end_stream=len(body) <= room)
                body = body[room:]
                self._socket.sendall(connection.data_to_send())
            else:
                self._read()
        self._socket.sendall(connection.data_to_send())
        return stream

    def begin(self, *fields: tuple[str, str], path: str) -> int:
        """
        Send the head of a request that has a body.

        :return: its stream.
        """
        stream: int = self._connection.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"),
                (":path", path), *fields]  # fmt: skip
        self._connection.send_headers(stream, head)
        self._socket.sendall(self._connection.data_to_send())
        return stream

    def end(self, stream: int, body: bytes) -> None:
        """
        Send the body of a request that was begun.
        """
        self._connection.send_data(stream, body, end_stream=True)
        self._socket.sendall(self._connection.data_to_send())

    def whole(self, stream: int) -> tuple[str, dict[str, str]]:
        """
        Wait for a whole response.

        :return: its body, and its head.
        """
        assert self.outcome(stream) == 0
        return self._bodies[stream].decode(), self._heads[stream]

    def _read(self) -> None:
        data = self._socket.recv(65536)
        assert data, "the server has closed"
        for event in self._connection.receive_data(data):
            if isinstance(event, ResponseReceived):
                self._heads[event.stream_id] = {str(n): str(v) for n, v in event.headers}
            elif isinstance(event, DataReceived):
                known = self._bodies.get(event.stream_id, b"")
                self._bodies[event.stream_id] = known + event.data
                self._connection.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
            elif isinstance(event, StreamEnded):
                self.ended[event.stream_id] = 0
            elif isinstance(event, StreamReset):
                self.ended.setdefault(event.stream_id, event.error_code)
            elif isinstance(event, ConnectionTerminated):
                self._left = True
        self._socket.sendall(self._connection.data_to_send())

    def outcome(self, stream: int) -> int:
        """
        Wait for the end of a stream.

        :return: the code that it was reset with; 0 for a whole response.
        """
        while stream not in self.ended:
            self._read()
        return self.ended[stream]

    def answer(self, stream: int) -> tuple[dict[str, Any], dict[str, str]]:
        """
        Wait for a whole response.

        :return: what the application told, and the response's head.
        """
        assert self.outcome(stream) == 0
        assert self._heads[stream][":status"] == "200"
        return json.loads(self._bodies[stream]), self._heads[stream]

    def ask(self, *fields: tuple[str, str], path: str = "/", body: bytes = b"") -> dict[str, Any]:
        """
        Make a request.
        """
        return self.answer(self.send(*fields, path=path, body=body))[0]

    def is_left(self) -> bool:
        """
        Whether the server has said GOAWAY.
        """
        return self._left

    def close(self) -> None:
        """
        Close the connection.
        """
        self._socket.close()


@pytest.fixture
def encrypted(start: Start, tmp_path: Path) -> Callable[..., Server]:
    """
    Start a server that insists on HTTP/2.
    """
    certificate = write_certificate(tmp_path, "server", "localhost")

    def start_one(*arguments: str) -> Server:
        return start(*arguments, "--tls", certificate, "--http2", "on", workers=WORKERS)

    return start_one


def asked_anew(server: Server, *fields: tuple[str, str], path: str = "/") -> dict[str, Any]:
    """
    Make a request on a connection of its own.
    """
    with closing(H2Client(server)) as client:
        return client.ask(*fields, path=path)


@every_kind
def test_connection_goes_where_its_first_request_belongs(
    kind: str, encrypted: Callable[..., Server]
) -> None:
    """
    All requests of it are answered there, and the application knows the client; nothing is
    left of the tunnels afterwards.
    """
    server = encrypted(*KINDS[kind], "--affinity", "header:X-User,ip")
    server.log.wait_for("HTTP/2: a connection is placed by its first request")
    workers = [server.worker(slot) for slot in range(WORKERS)]
    before = [len(descriptors_of(pid)) for pid in workers]
    for user in USERS:
        with closing(H2Client(server)) as client:
            streams = [client.send(("x-user", user)) for _ in range(3)]
            expected = {"slot": HOMES[user], "host": "127.0.0.1", "secure": True, "id": None}
            assert [client.answer(stream)[0] for stream in streams] == [expected] * 3
            assert client.ask(("x-user", user), body=b"later") == expected
            assert not client.is_left()
    assert eventually(lambda: [len(descriptors_of(pid)) for pid in workers] == before)


@every_kind
def test_much_goes_through(kind: str, encrypted: Callable[..., Server]) -> None:
    """
    What fits into no buffer and no window arrives whole, in both directions, on the
    connection's first request too.
    """
    server = encrypted(*KINDS[kind], "--affinity", "header:X-User,ip")
    for user in USERS[:4]:
        with closing(H2Client(server)) as client:
            told = client.ask(("x-user", user), path="/large", body=b"b" * LARGE)
            assert (told["slot"], len(told["padding"])) == (HOMES[user], LARGE)


def test_another_clients_request_needs_another_connection(
    encrypted: Callable[..., Server],
) -> None:
    """
    It is refused before it is begun, as the client is told, and may be made again; what is
    under way on the connection is answered.
    """
    server = encrypted(*KINDS["resource"], "--affinity", "header:X-User,ip")
    first = USERS[0]
    other = next(user for user in USERS if HOMES[user] != HOMES[first])
    same = next(user for user in USERS[1:] if HOMES[user] == HOMES[first])
    with closing(H2Client(server)) as client:
        assert client.ask(("x-user", first))["slot"] == HOMES[first]
        assert client.ask(("x-user", same))["slot"] == HOMES[first]
        assert not client.is_left()
        large = client.send(("x-user", first), path="/large")
        refused = client.send(("x-user", other))
        assert client.outcome(refused) == ErrorCodes.REFUSED_STREAM
        assert client.is_left()
        assert client.answer(large)[0]["slot"] == HOMES[first]
    assert asked_anew(server, ("x-user", other))["slot"] == HOMES[other]


def test_curl_is_placed(encrypted: Callable[..., Server]) -> None:
    """
    A client of the wild notices nothing of a tunnel.
    """
    server = encrypted(*KINDS["resource"], "--affinity", "header:X-User,ip")
    url = f"https://127.0.0.1:{server.port}/"
    for user in USERS[:6]:
        outcome = subprocess.run(
            ["curl", "-sSk", "--http2", "-w", " %{http_version} %{http_code}", "-H",
             f"X-User: {user}", "--data-binary", "@-", url],
            input="b" * 200_000,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 3,
        )  # fmt: skip
        assert (outcome.returncode, outcome.stderr) == (0, "")
        told, _, rest = outcome.stdout.rpartition("} ")
        assert (json.loads(told + "}")["slot"], rest) == (HOMES[user], "2 200")


def test_cookie_brings_its_client_home(encrypted: Callable[..., Server]) -> None:
    """
    The cookie is set over HTTP/2, brings new connections home, and is not set again.
    """
    server = encrypted(*KINDS["resource"], "--affinity", "cookie:stickyd")
    cookies = {}
    for _ in range(9):
        with closing(H2Client(server)) as client:
            told, head = client.answer(client.send())
            cookie, _, attributes = head["set-cookie"].partition(";")
            assert "Secure" in attributes
            cookies[cookie] = told["slot"]
    assert len(set(cookies.values())) > 1
    for cookie, slot in cookies.items():
        with closing(H2Client(server)) as client:
            # In two fields, as HTTP/2 allows.
            told, head = client.answer(client.send(("cookie", "a=b"), ("cookie", cookie)))
            assert told["slot"] == slot
            assert "set-cookie" not in head


@pytest.mark.parametrize("where", ["header:X-Id", "query:sid"])
def test_minted_ids(where: str, encrypted: Callable[..., Server]) -> None:
    """
    Who brings an id that was minted or claimed over HTTP/2 is served where that was; a
    worker that does not know the id has the primary look.
    """
    server = encrypted(*KINDS["resource"], "--affinity", f"learn:{where}")
    minted = {}
    for _ in range(6):
        told = asked_anew(server, path="/claim" if "query" in where else "/mint")
        minted[told["id"]] = told["slot"]
    for identifier, slot in minted.items():
        if "query" in where:
            found = asked_anew(server, path=f"/?sid={identifier}")
        else:
            found = asked_anew(server, ("x-id", identifier))
        assert found["slot"] == slot


def test_stamped_and_minted_ids(encrypted: Callable[..., Server]) -> None:
    """
    A stamped id names its slot over HTTP/2 as well, and so does one that stickyd has minted.
    """
    server = encrypted(*KINDS["resource"], "--affinity", "stamp:X-Id,minted:query:room")
    for _ in range(4):
        with closing(H2Client(server)) as client:
            told, head = client.answer(client.send(path="/mint"))
            assert head["x-id"].startswith(f"{told['id']}.{told['slot']}.")
        found = asked_anew(server, ("x-id", head["x-id"]))
        assert (found["slot"], found["id"]) == (told["slot"], told["id"])
        told = asked_anew(server, path="/minted")
        assert asked_anew(server, path=f"/?room={told['id']}")["slot"] == told["slot"]


def test_proxy_that_mixes_its_clients(encrypted: Callable[..., Server]) -> None:
    """
    A trusted peer's requests are served where the first belongs, and the log says so once.
    """
    server = encrypted(*KINDS["resource"], "--affinity", "header:X-User,ip", "--trust", "127.0.0.1")
    server.allow("The proxy 127.0.0.1 sends requests of several clients down one HTTP/2")
    with closing(H2Client(server)) as client:
        streams = [client.send(("x-user", user)) for user in USERS * 2]
        assert {client.answer(stream)[0]["slot"] for stream in streams} == {HOMES[USERS[0]]}
        assert not client.is_left()
    assert len(server.log.found("The proxy 127.0.0.1 sends requests of several")) == 1


def test_connection_after_a_resize(encrypted: Callable[..., Server]) -> None:
    """
    Whose slot is another one from now on is told to come on a new connection, which is there.
    """
    server = encrypted(*KINDS["resource"], "--affinity", "header:X-User,ip")
    after = {user: Rendezvous(WORKERS + 1).slot_of(user.encode()) for user in USERS}
    clients = {user: H2Client(server) for user in USERS}
    for user, client in clients.items():
        assert client.ask(("x-user", user))["slot"] == HOMES[user]
    server.resize_to(WORKERS + 1)
    assert after != HOMES
    for user, client in clients.items():
        with closing(client):
            if after[user] == HOMES[user]:
                assert client.ask(("x-user", user))["slot"] == HOMES[user]
        assert asked_anew(server, ("x-user", user))["slot"] == after[user]
