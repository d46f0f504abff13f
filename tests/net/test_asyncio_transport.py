from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from stickyd.net.asyncio_transport import LoopTransport
from tests.transport_harness import (
    EVERYTHING,
    Drive,
    logged_failures,
    receive,
    reset,
    socket_pair,
)

pytest_plugins = ("tests.transport_fixtures",)


class LoopRecorder(asyncio.Protocol):
    """
    Writes down what its transport tells it.
    """

    def __init__(self, keep_open: bool = False) -> None:
        self.events: list[str] = []
        self.data = b""
        self.errors: list[Exception | None] = []
        self.inside = False
        self.transport: Any = None
        self._keep_open = keep_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self._keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        assert not self.inside
        self.events.append("lost")
        self.errors.append(exc)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        assert not self.inside
        self.events.append("resume")

    @property
    def lost(self) -> bool:
        return bool(self.errors)


class LoopEcho(LoopRecorder):
    """
    Sends everything back.
    """

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


def test_waiting_request_never_meets_the_loop(drive: Drive, family: str) -> None:
    """
    A request that waits is read, answered and closed at once, in four system calls, and what is
    written last leaves with the FIN.
    """

    class Answering(LoopRecorder):
        def data_received(self, data: bytes) -> None:
            self.inside = True
            self.transport.writelines([b"head ", b"bo"])
            self.transport.write(bytearray(b"dy"))
            self.transport.close()
            assert self.transport.is_closing()
            self.transport.write(b"dropped")
            self.inside = False

    server, client, peer = socket_pair(family)
    client.sendall(b"request")
    protocol = Answering()
    LoopTransport(drive.readiness, server, peer).start(protocol)
    assert protocol.events == ["made", "lost"]
    assert protocol.errors == [None]
    assert server.calls == ["recv", "sendmsg", "shutdown", "close"]
    assert server.more == [True]
    assert drive.readiness.changes == 0
    assert client.recv(100) == b"head body"
    client.close()


def test_echo_byte_by_byte(drive: Drive, family: str) -> None:
    """
    Nothing is lost or reordered when every byte comes alone.
    """
    server, client, peer = socket_pair(family)
    protocol = LoopEcho()
    LoopTransport(drive.readiness, server, peer, b"<").start(protocol)
    for number in range(30):
        client.sendall(bytes([number]))
        drive.turn()
    assert receive(drive, client, 31) == b"<" + bytes(range(30))
    client.close()
    drive.until(lambda: protocol.lost)
    assert protocol.events == ["made", "eof", "lost"]


def test_writes_of_a_turn_leave_together(drive: Drive) -> None:
    """
    What is written outside data_received() is one send, and a copy of what was given.
    """
    server, client, peer = socket_pair()
    transport = LoopTransport(drive.readiness, server, peer)
    transport.start(LoopRecorder())
    changeable = bytearray(b"head ")
    transport.write(changeable)
    changeable[:] = b"xxxx "
    transport.write(memoryview(b"body"))
    assert transport.get_write_buffer_size() == 9
    assert "sendmsg" not in server.calls
    assert receive(drive, client, 9) == b"head body"
    assert server.calls.count("sendmsg") == 1
    transport.abort()
    drive.turns()
    client.close()


def test_flow_control(drive: Drive, family: str) -> None:
    """
    The protocol is paused above the high mark and resumed at the low one.
    """
    server, client, peer = socket_pair(family)
    protocol = LoopRecorder()
    transport = LoopTransport(drive.readiness, server, peer)
    transport.start(protocol)
    transport.set_write_buffer_limits(high=2_000_000, low=1_500_000)
    assert transport.get_write_buffer_limits() == (1_500_000, 2_000_000)
    written = 0
    while "pause" not in protocol.events:
        protocol.inside = True
        transport.write(bytes(50_000))
        protocol.inside = False
        written += 50_000
        drive.turn()
    assert 2_000_000 < transport.get_write_buffer_size() <= 2_050_000
    low: list[int] = []
    protocol.resume_writing = lambda: low.append(transport.get_write_buffer_size())  # type: ignore[method-assign]
    transport.close()
    assert receive(drive, client, EVERYTHING) == bytes(written)
    drive.until(lambda: protocol.lost)
    assert len(low) == 1
    assert low[0] <= 1_500_000
    if family == "unix":
        # TCP's buffers grow and may swallow all at once.
        assert low[0] > 0
    assert protocol.events == ["made", "pause", "lost"]
    client.close()


def test_write_buffer_limits() -> None:
    """
    The marks' defaults follow from each other as asyncio's do.
    """
    server, client, peer = socket_pair()
    transport = LoopTransport(asyncio.new_event_loop(), server, peer)  # type: ignore[arg-type]
    transport._readiness.close()  # type: ignore[attr-defined]
    assert transport.get_write_buffer_limits() == (16384, 65536)
    transport.set_write_buffer_limits(low=10)
    assert transport.get_write_buffer_limits() == (10, 40)
    transport.set_write_buffer_limits(high=0)
    assert transport.get_write_buffer_limits() == (0, 0)
    with pytest.raises(ValueError, match="must be >="):
        transport.set_write_buffer_limits(high=1, low=2)
    transport.detach()[0].close()
    client.close()


def test_kept_open_after_eof(drive: Drive) -> None:
    """
    A protocol whose eof_received() says so may answer a client that ended its side.
    """
    server, client, peer = socket_pair()
    protocol = LoopRecorder(keep_open=True)
    transport = LoopTransport(drive.readiness, server, peer)
    transport.start(protocol)
    client.shutdown(socket.SHUT_WR)
    drive.until(lambda: "eof" in protocol.events)
    drive.turns()
    transport.write(b"answer")
    transport.close()
    assert receive(drive, client, EVERYTHING) == b"answer"
    drive.until(lambda: protocol.lost)
    assert protocol.events == ["made", "eof", "lost"]
    client.close()


def test_write_eof(drive: Drive) -> None:
    """
    write_eof() sends what is written and the FIN; input still comes.
    """
    server, client, peer = socket_pair()
    protocol = LoopRecorder()
    transport = LoopTransport(drive.readiness, server, peer)
    transport.start(protocol)
    assert transport.can_write_eof()
    transport.write(b"all")
    transport.write_eof()
    with pytest.raises(RuntimeError):
        transport.write(b"more")
    assert receive(drive, client, EVERYTHING) == b"all"
    with pytest.raises(RuntimeError):
        transport.detach()
    client.setblocking(True)
    client.sendall(b"heard")
    drive.until(lambda: protocol.data == b"heard")
    assert not transport.is_closing()
    client.close()
    drive.until(lambda: protocol.lost)


def test_abort(drive: Drive) -> None:
    """
    abort() drops the output; connection_lost(None) follows in a later turn.
    """
    server, client, peer = socket_pair()
    protocol = LoopRecorder()
    transport = LoopTransport(drive.readiness, server, peer)
    transport.start(protocol)
    transport.write(bytes(20_000_000))
    transport.abort()
    assert not protocol.lost
    assert transport.is_closing()
    drive.until(lambda: protocol.lost)
    assert protocol.errors == [None]
    assert len(receive(drive, client, EVERYTHING)) < 20_000_000
    client.close()


def test_reset_is_an_oserror(drive: Drive) -> None:
    """
    connection_lost() gets the error that the socket gave.
    """
    server, client, peer = socket_pair()
    protocol = LoopRecorder()
    LoopTransport(drive.readiness, server, peer).start(protocol)
    reset(client)
    drive.until(lambda: protocol.lost)
    error: Any = protocol.errors[0]
    assert isinstance(error, OSError)
    assert error.errno == errno.ECONNRESET


def test_failing_protocol(drive: Drive) -> None:
    """
    A protocol that raises loses its connection, and gets its own error back.
    """

    class Failing(LoopRecorder):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    server, client, peer = socket_pair()
    client.sendall(b"x")
    protocol = Failing()
    with logged_failures() as failures:
        LoopTransport(drive.readiness, server, peer).start(protocol)
        drive.until(lambda: protocol.lost)
    assert [failure.type for failure in failures] == [ZeroDivisionError]
    assert isinstance(protocol.errors[0], ZeroDivisionError)
    client.close()


def test_pause_reading(drive: Drive) -> None:
    """
    Nothing is delivered while reading is paused, and all of it afterwards.
    """
    server, client, peer = socket_pair()
    protocol = LoopRecorder()
    transport = LoopTransport(drive.readiness, server, peer)
    transport.start(protocol)
    transport.pause_reading()
    assert not transport.is_reading()
    client.sendall(b"held back")
    client.close()
    drive.turns()
    assert protocol.data == b""
    transport.resume_reading()
    assert transport.is_reading()
    drive.until(lambda: protocol.lost)
    assert protocol.data == b"held back"


def test_detach_and_adopt_again(drive: Drive) -> None:
    """
    A connection moves to a second transport, and the first protocol is not told.
    """
    server, client, peer = socket_pair()
    first, second = LoopRecorder(), LoopEcho()
    transport = LoopTransport(drive.readiness, server, peer)
    transport.start(first)
    client.sendall(b"one")
    drive.until(lambda: first.data == b"one")
    client.sendall(b"two")
    taken, unread = transport.detach()
    assert unread == b""
    assert transport.is_closing()
    LoopTransport(drive.readiness, taken, peer, b"and ").start(second)
    assert receive(drive, client, 7) == b"and two"
    client.close()
    drive.until(lambda: second.lost)
    assert first.events == ["made"]


def test_extra_info(drive: Drive, family: str) -> None:
    """
    The addresses are those that the transport was given, on its socket's view too.
    """
    server, client, peer = socket_pair(family)
    transport = LoopTransport(drive.readiness, server, peer, extra={"sslcontext": "yes"})
    protocol = LoopRecorder()
    transport.start(protocol)
    assert transport.get_protocol() is protocol
    view = transport.get_extra_info("socket")
    assert view.fileno() == server.fileno()
    assert (view.family, view.type, view.proto) == (server.family, server.type, server.proto)
    view.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert view.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    expected = client.getsockname() if family == "tcp" else ""
    assert view.getpeername() == transport.get_extra_info("peername") == expected
    assert view.getsockname() == transport.get_extra_info("sockname") == server.getsockname()
    assert transport.get_extra_info("sslcontext") == "yes"
    assert transport.get_extra_info("cipher", "none") == "none"
    transport.detach()[0].close()
    client.close()


def test_replaced_protocol(drive: Drive) -> None:
    """
    set_protocol() moves the connection to another protocol, as an upgrade does.
    """
    server, client, peer = socket_pair()
    first, second = LoopRecorder(), LoopRecorder()
    transport = LoopTransport(drive.readiness, server, peer)
    transport.start(first)
    transport.set_protocol(second)
    client.sendall(b"x")
    client.close()
    drive.until(lambda: second.lost)
    assert second.data == b"x"
    assert first.events == ["made"]


def test_whole_answers_leave_at_once(drive: Drive) -> None:
    """
    Of what is written whole the first after a read is sent at once; what comes behind it in its
    turn, and what nothing was read before, is sent together.
    """
    server, client, peer = socket_pair()
    protocol = LoopRecorder()
    transport = LoopTransport(drive.readiness, server, peer)
    transport.answers_whole = True
    transport.start(protocol)

    def calls() -> list[str]:
        return [call for call in server.calls if call.startswith("send")]

    def write() -> list[list[str]]:
        seen = []
        for piece in (b"one", b"two", b"six"):
            transport.write(piece)
            seen.append(calls())
        return seen

    assert write() == [[], [], []]
    assert receive(drive, client, 9) == b"onetwosix"
    assert calls() == ["sendmsg"]
    del server.calls[:]
    client.sendall(b"request")
    drive.until(lambda: protocol.data)
    assert write() == [["send"]] * 3
    assert receive(drive, client, 9) == b"onetwosix"
    assert calls() == ["send", "sendmsg"]
    transport.abort()
    drive.until(lambda: protocol.lost)
    client.close()
