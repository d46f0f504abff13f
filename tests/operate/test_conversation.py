"""
One conversation on the control socket: garbage, floods, and clients that do not read.
"""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack, suppress
from random import Random
from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from stickyd.operate.conversation import SILENT_SECONDS
from stickyd.operate.socket import MOST_OPERATORS
from stickyd.operate.wire import LONGEST_QUESTION_BYTES, VERSION, encode
from tests.operate.answering import YES, Answering, asked, serve
from tests.reactors import turn_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet.epollreactor import EPollReactor


def turns(reactor: EPollReactor) -> Iterator[None]:
    """
    Turn a reactor so often that whatever is to happen has happened.
    """
    for _ in range(500):
        reactor.iterate(0.01)
        yield


def closed(client: socket.socket) -> bool:
    """
    Whether the other end has closed.
    """
    try:
        return client.recv(1000) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    ("garbage", "named"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "no JSON object: 'GET / HTTP/1.1"),
        (b"\0\x08_command\0\x07Explain\0\0", "no JSON object: '\\x00\\x08_command"),
        (b"\n", "no JSON: ''"),
        (b"[]\n", "no JSON object: '[]'"),
        (b'{"stickyd": NaN}\n', "no JSON: "),
        (b'{"stickyd": "\xff"}\n', "no JSON: "),
        (b'{"a":' * 100_000 + b"\n", ""),
        (b'{"stickyd": 2,' + b" " * LONGEST_QUESTION_BYTES, "bytes without an end of line"),
    ],
)
def test_fault_16_garbage_is_closed_with_one_line(
    garbage: bytes, named: str, reactor: EPollReactor, path: str
) -> None:
    """
    Fault 16: who does not speak the protocol is closed, one line says what was sent, and the
    next one is answered.
    """
    control = serve(reactor, path, Answering(YES))
    with capturedLogs() as told:
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.setblocking(False)
                left = memoryview(garbage)
                for _ in turns(reactor):
                    if left and not closed(client):
                        with suppress(BlockingIOError, BrokenPipeError):
                            left = left[client.send(left) :]
                    elif closed(client):
                        break
    (line,) = [formatEvent(event) for event in told]
    assert named in line
    assert "does not speak the control protocol" in line
    assert asked(reactor, path) == YES
    control.stopService()


def test_fault_16_silent_operators_keep_nobody_out(reactor: EPollReactor, path: str) -> None:
    """
    Fault 16: those who connect and say nothing are closed after a while, and cost no more than
    so many descriptors meanwhile.
    """
    control = serve(reactor, path, Answering(YES))
    with ExitStack() as stack:
        for _ in range(MOST_OPERATORS + 4):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(path)
            reactor.iterate(0)
        assert len(control._conversations) == MOST_OPERATORS
        # Their time is over.
        for call in reactor.getDelayedCalls():
            assert call.getTime() <= reactor.seconds() + SILENT_SECONDS
            call.reset(0)
        assert asked(reactor, path) == YES
    control.stopService()


def test_ten_thousand_questions_of_a_client_that_does_not_read(
    reactor: EPollReactor, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    They are read as far as their answers are: the rest waits in the client's socket, others
    are answered meanwhile, and after a while the client is closed.
    """
    run = Answering({"long": "x" * 1000})
    control = serve(reactor, path, run)
    flood = memoryview(encode({"stickyd": VERSION, "command": "status"}) * 10_000)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.setblocking(False)
        blocked = 0
        while flood and blocked < 50:
            try:
                flood = flood[client.send(flood) :]
                blocked = 0
            except BlockingIOError:
                blocked += 1
            reactor.iterate(0)
        assert flood
        assert len(run.asked) < 2_000
        assert len(asked(reactor, path)["long"]) == 1000
        turn_until(reactor, lambda: len(control._conversations) == 1)
        (conversation,) = control._conversations
        assert len(conversation._read) <= 2 * 65536
        monkeypatch.setattr("stickyd.operate.conversation.SILENT_SECONDS", 0.05)
        conversation.pauseProducing()
        turn_until(reactor, lambda: not control._conversations)
    control.stopService()


def test_events_that_find_no_room_are_counted(reactor: EPollReactor, path: str) -> None:
    """
    A client that does not read misses events, and is told how many; its socket's buffer and
    ours are all that it costs.
    """
    run = Answering(Deferred())
    control = serve(reactor, path, run)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(encode({"stickyd": VERSION, "command": "events"}))
        turn_until(reactor, lambda: run.askers)
        (asker,) = run.askers
        for number in range(3_000):
            asker.event({"event": "x", "number": number, "text": "x" * 500})
            reactor.iterate(0)
        read = b""

        def all_read() -> bool:
            nonlocal read
            with suppress(BlockingIOError):
                read += client.recv(1 << 20)
            asker.event({"event": "last"})
            return b'"last"' in read

        client.setblocking(False)
        turn_until(reactor, all_read)
        told = [json.loads(line) for line in read.splitlines() if line.endswith(b"}")]
        numbers = [e["event"]["number"] for e in told if "number" in e.get("event", {})]
        (missed,) = [e["event"] for e in told if e["event"]["event"] == "events.missed"][:1]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) < 3_000
        assert int(missed["text"].split()[0]) >= 3_000 - len(numbers)

    def gone() -> bool:
        asker.event({"event": "more"})
        return not asker.is_open

    turn_until(reactor, gone)
    control.stopService()


def test_mutated_questions_harm_nobody(reactor: EPollReactor, path: str) -> None:
    """
    A thousand messages that are almost questions, some cut short, some from clients that close
    at once: nothing is left of them, nothing is logged but what they were, and the next question
    is answered.
    """
    control = serve(reactor, path, Answering(YES))
    random = Random(12)
    sound = encode({"stickyd": VERSION, "command": "explain", "arguments": {"header": ["a: b"]}})
    with capturedLogs() as told:
        for _ in range(1_000):
            message = bytearray(sound)
            for _ in range(random.randrange(1, 5)):
                at = random.randrange(len(message) or 1)
                message[at : at + random.randrange(4)] = random.randbytes(random.randrange(6))
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.setblocking(False)
                with suppress(BrokenPipeError):
                    client.sendall(message)
                if random.random() < 0.3:
                    client.shutdown(socket.SHUT_WR)
                for _ in range(random.randrange(4)):
                    reactor.iterate(0)
        turn_until(reactor, lambda: not control._conversations)
        assert asked(reactor, path) == YES
    assert {event["log_level"].name for event in told} <= {"warn"}
    control.stopService()
