"""
Tests of producers: responses at the pace of the client.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.web.server import NOT_DONE_YET

from tests.http_wire import GET, Wire, WireTransport, hold

if TYPE_CHECKING:
    from collections.abc import Callable


class Pull:
    """
    A pull producer of so many pieces.
    """

    def __init__(self, request: Any, pieces: int, size: int = 10) -> None:
        self._request = request
        self.left = pieces
        self._size = size
        self.stopped = False
        request.registerProducer(self, False)

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Write a piece, and finish after the last.
        """
        self.left -= 1
        self._request.write(b"p" * self._size)
        if not self.left:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Remember.
        """
        self.stopped = True


def pulling(producers: list[Pull], pieces: int, size: int = 10) -> Callable[[Any], int]:
    """
    Make an answer that a pull producer writes.
    """

    def answer(request: Any) -> int:
        producers.append(Pull(request, pieces, size))
        return NOT_DONE_YET

    return answer


class Push:
    """
    A push producer that remembers what it is told.
    """

    def __init__(self) -> None:
        self.events: list[str] = []

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Remember.
        """
        self.events.append("pause")

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Remember.
        """
        self.events.append("resume")

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Remember.
        """
        self.events.append("stop")


class Full(WireTransport):
    """
    A transport that is full after so many bytes.
    """

    room = 1000

    def write(self, data: bytes) -> None:
        """
        Take it, and say when it is enough.
        """
        super().write(data)
        self.room -= len(data)
        if self.room < 0:
            producer: Any = self.producer
            producer.pauseProducing()

    def take(self, room: int) -> None:
        """
        Let the client read.
        """
        self.room = room
        producer: Any = self.producer
        producer.resumeProducing()


def test_pull_producer_of_a_short_response() -> None:
    """
    A pull producer is asked at once, and a short response of one leaves in one write.
    """
    producers: list[Pull] = []

    def answer(request: Any) -> int:
        producers.append(Pull(request, 3))
        assert producers[-1].left == 3
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(GET + GET)
    assert len(wire.transport.writes) == 1
    assert wire.output().count(b"a\r\npppppppppp\r\n" * 3 + b"0\r\n\r\n") == 2


def test_pull_producer_in_a_later_turn() -> None:
    """
    A pull producer that is registered after render returned is asked in the next turn.
    """
    requests: list[Any] = []
    wire = Wire(hold(requests))
    wire.feed(GET)
    producer = Pull(requests[0], 1)
    assert producer.left == 1
    wire.clock.advance(0)
    assert producer.left == 0
    assert wire.channel.idle


def test_pull_producer_waits_for_a_full_transport() -> None:
    """
    A pull producer is asked only while the transport has room.
    """
    producers: list[Pull] = []
    wire = Wire(
        pulling(producers, 100, 70000),
        transport=Full(),
    )
    wire.feed(GET)
    [producer] = producers
    for left in (99, 98, 97):
        assert producer.left == left
        wire.clock.pump([0] * 5)
        assert producer.left == left
        wire.transport.take(1000)


def test_pull_producer_lets_others_have_a_turn() -> None:
    """
    A client that reads as fast as a producer writes does not hold the loop.
    """
    left = []
    producers: list[Pull] = []

    class Turns(Clock):
        def callLater(self, delay: float, callable: Any, *args: object, **kw: object) -> Any:  # noqa: A002, N802
            left.append(producers[0].left if producers else 100)
            return super().callLater(delay, callable, *args, **kw)

    wire = Wire(pulling(producers, 100), Turns())
    wire.feed(GET)
    wire.clock.advance(0)
    assert producers[0].left == 0
    assert len(left) >= 5
    assert max(before - after for before, after in pairwise(left)) < 20
    assert wire.channel.idle


def test_failing_pull_producer_ends_its_connection() -> None:
    """
    A pull producer that raises is logged, and its response gets no proper end.
    """

    class Bad(Pull):
        def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
            raise ZeroDivisionError

    def answer(request: Any) -> int:
        Bad(request, 1)
        return NOT_DONE_YET

    events = EventLoggingObserver()
    globalLogPublisher.addObserver(events)
    try:
        wire = Wire(answer)
        wire.feed(GET)
    finally:
        globalLogPublisher.removeObserver(events)
    assert wire.transport.disconnected
    assert b"0\r\n\r\n" not in wire.output()
    assert any("log_failure" in event for event in events)


def test_pull_producer_ends_with_the_connection() -> None:
    """
    When the connection is lost, a pull producer is stopped and not asked again.
    """
    producers: list[Pull] = []
    wire = Wire(pulling(producers, 100))
    wire.feed(GET)
    left = producers[0].left
    wire.channel.stopProducing()
    wire.lose()
    wire.clock.pump([0] * 50)
    assert producers[0].stopped
    assert producers[0].left == left


def test_push_producer_is_paused_and_resumed() -> None:
    """
    A push producer is paused when the transport is full and resumed when it has room,
    and stopped with the connection.
    """
    producer = Push()
    requests: list[Any] = []

    def answer(request: Any) -> int:
        requests.append(request)
        request.registerProducer(producer, True)
        return NOT_DONE_YET

    wire = Wire(answer, transport=Full())
    wire.feed(GET)
    requests[0].write(b"x" * 2000)
    assert producer.events == ["pause"]
    assert wire.transport.producerState == "producing"
    wire.transport.take(1000)
    assert producer.events == ["pause", "resume"]
    wire.channel.stopProducing()
    assert producer.events == ["pause", "resume", "stop"]


def test_push_producer_on_a_full_transport_starts_paused() -> None:
    """
    A push producer that is registered while the transport is full is paused at once.
    """
    producer = Push()
    requests: list[Any] = []
    wire = Wire(hold(requests), transport=Full())
    wire.feed(GET)
    requests[0].write(b"x" * 2000)
    requests[0].registerProducer(producer, True)
    assert producer.events == ["pause"]
    with pytest.raises(RuntimeError):
        wire.channel.registerProducer(Push(), True)


def test_one_producer_at_a_time() -> None:
    """
    A second producer is refused while there is one, by the request too.
    """

    def answer(request: Any) -> int:
        request.registerProducer(Push(), True)
        with pytest.raises(ValueError, match="registering producer"):
            request.registerProducer(Push(), True)
        request.unregisterProducer()
        request.registerProducer(Push(), True)
        request.unregisterProducer()
        request.finish()
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(GET)
    assert wire.channel.idle
