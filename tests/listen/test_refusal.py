"""
What a client reads whose connection is refused.
"""

from __future__ import annotations

import os
import socket

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from stickyd.handoff.frame import Handoff
from stickyd.interfaces import IRefusal
from stickyd.listen import refusal as overflow
from stickyd.listen.refusal import ANSWERS, LINGER_SECONDS, QUIET_SECONDS, UNAVAILABLE, Refusal
from stickyd.settings.settings import rules
from tests.channels import connection

pytestmark = pytest.mark.usefixtures("nothing_leaks")


def accepted() -> tuple[Handoff, socket.socket]:
    """
    A connection over TCP as the primary has it, and its client.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 5)
        server, (host, port) = listener.accept()
    return Handoff(server.detach(), host, port, b"key"), client


def read_all(client: socket.socket) -> bytes:
    """
    Read until the end.
    """
    pieces = []
    while piece := client.recv(10):
        pieces.append(piece)
    return b"".join(pieces)


def is_open(descriptor: int) -> bool:
    """
    Whether a descriptor is open.
    """
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_overflow_is_a_refusal() -> None:
    """
    It is what slots expect, and its answers are those of the setting.
    """
    assert verifyObject(IRefusal, Refusal(Clock(), "503"))
    assert rules()["overflow"][0].choices == ("auto", *ANSWERS)


def test_answer_says_its_own_length() -> None:
    """
    A client that goes by Content-Length reads the body to its end.
    """
    head, body = UNAVAILABLE.split(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")


def test_client_reads_the_whole_answer_though_nobody_read_his_request() -> None:
    """
    The request stands unread in the kernel, and yet the answer arrives whole, with its
    end, as no reset overtakes it.
    """
    clock = Clock()
    handoff, client = accepted()
    client.sendall(b"POST / HTTP/1.1\r\n\r\n" + b"x" * 10_000)
    Refusal(clock, "503").refuse(handoff, "full")
    assert read_all(client) == UNAVAILABLE
    # It may even go on sending for a while without being reset.
    client.sendall(b"more")
    client.sendall(b"and more")
    clock.advance(LINGER_SECONDS)
    assert not is_open(handoff.descriptor)
    client.close()


def test_refused_connection_lingers_for_a_bounded_time() -> None:
    """
    Each is closed when its time is over, not when the client likes, and no later for
    those that come after it.
    """
    clock = Clock()
    refusal = Refusal(clock, "503")
    (first, one), (second, two) = accepted(), accepted()
    refusal.refuse(first, "full")
    clock.advance(LINGER_SECONDS * 0.75)
    refusal.refuse(second, "full")
    assert is_open(first.descriptor)
    clock.advance(LINGER_SECONDS * 0.25)
    assert [is_open(first.descriptor), is_open(second.descriptor)] == [False, True]
    clock.advance(LINGER_SECONDS * 0.75)
    assert not is_open(second.descriptor)
    assert not clock.getDelayedCalls()
    one.close()
    two.close()


def test_lingering_begins_anew_after_a_pause() -> None:
    """
    One that is refused long after the others lingers and is closed as they were.
    """
    clock = Clock()
    refusal = Refusal(clock, "503")
    for _ in range(2):
        handoff, client = accepted()
        refusal.refuse(handoff, "full")
        clock.advance(LINGER_SECONDS / 2)
        assert is_open(handoff.descriptor)
        clock.advance(LINGER_SECONDS / 2)
        assert not is_open(handoff.descriptor)
        clock.advance(10)
        client.close()


def test_lingering_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A flood of refused clients holds a bounded number of descriptors: the oldest are
    closed for the newest.
    """
    monkeypatch.setattr(overflow, "MOST_LINGERING", 3)
    clock = Clock()
    refusal = Refusal(clock, "503")
    pairs = [connection(str(number)) for number in range(5)]
    for handoff, _ in pairs:
        refusal.refuse(handoff, "full")
    assert [is_open(handoff.descriptor) for handoff, _ in pairs] == [False, False, True, True, True]
    assert [client.recv(1000) for _, client in pairs] == [UNAVAILABLE] * 5
    clock.advance(LINGER_SECONDS)
    assert not any(is_open(handoff.descriptor) for handoff, _ in pairs)
    for _, client in pairs:
        client.close()


def test_client_who_has_gone_is_not_waited_for() -> None:
    """
    When the answer cannot be sent, the connection is closed at once.
    """
    clock = Clock()
    handoff, client = connection("gone")
    client.close()
    Refusal(clock, "503").refuse(handoff, "full")
    assert not is_open(handoff.descriptor)
    assert not clock.getDelayedCalls()


def test_client_who_does_not_read_does_not_block() -> None:
    """
    The answer to a connection whose buffer is full is dropped, and the primary goes on.
    """
    handoff, client = connection("x")
    server = socket.socket(fileno=os.dup(handoff.descriptor))
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.sendall(b"x" * 10_000_000)
    server.setblocking(True)
    server.close()
    Refusal(Clock(), "503").refuse(handoff, "full")
    assert not is_open(handoff.descriptor)
    client.close()


def test_close_says_nothing() -> None:
    """
    The client of ``close`` reads the end and nothing before.
    """
    clock = Clock()
    handoff, client = accepted()
    Refusal(clock, "close").refuse(handoff, "full")
    assert read_all(client) == b""
    assert not is_open(handoff.descriptor)
    assert not clock.getDelayedCalls()
    client.close()


def test_reset_resets() -> None:
    """
    The client of ``reset`` gets ECONNRESET, though it had sent nothing.
    """
    handoff, client = accepted()
    Refusal(Clock(), "reset").refuse(handoff, "full")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    client.close()


def test_reset_of_a_unix_connection_closes_it() -> None:
    """
    A UNIX connection cannot be reset: its client reads the end.
    """
    client, server = socket.socketpair()
    handoff = Handoff(server.detach(), "", 0, b"unix:")
    Refusal(Clock(), "reset").refuse(handoff, "full")
    assert client.recv(1) == b""
    client.close()


@pytest.mark.parametrize("answer", ANSWERS)
def test_refused_are_counted_by_reason(answer: str) -> None:
    """
    Every refused connection counts, whatever its answer was.
    """
    clock = Clock()
    refusal = Refusal(clock, answer)
    for why in ("full", "full", "failed"):
        handoff, client = connection(why)
        refusal.refuse(handoff, why)
        client.close()
    assert refusal.counts == {"full": 2, "failed": 1}
    clock.advance(LINGER_SECONDS)


def test_log_has_one_line_for_each_reason_and_time() -> None:
    """
    A flood of refusals is one line a second for each reason, with the count so far.
    """
    clock = Clock()
    refusal = Refusal(clock, "close")

    def refuse(why: str) -> None:
        handoff, client = connection("192.0.2.7")
        refusal.refuse(handoff, why)
        client.close()

    with capturedLogs() as events:
        for _ in range(3):
            refuse("full")
        refuse("failed")
        clock.advance(QUIET_SECONDS)
        refuse("full")
    assert [formatEvent(event) for event in events] == [
        "Connection of 192.0.2.7 refused (close): full; 1 so far",
        "Connection of 192.0.2.7 refused (close): failed; 1 so far",
        "Connection of 192.0.2.7 refused (close): full; 4 so far",
    ]
