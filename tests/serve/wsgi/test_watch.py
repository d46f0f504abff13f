"""
What the log says of threads that are too few, or stuck.
"""

from __future__ import annotations

import threading
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import formatEvent

from stickyd.serve.wsgi.watch import ThreadWatch
from tests.hosting import logged, until
from tests.serve.wsgi.scene import serving

if TYPE_CHECKING:
    from collections.abc import Callable


class Call:
    """
    A job.
    """

    def __init__(
        self, line: str = "GET /slow", answered: bool = False, read_at: float = 0.0
    ) -> None:
        self.request_line = line
        self.answered = answered
        self.read_at = read_at


class Place:
    """
    A seat.
    """

    def __init__(self, job: Call | None, since: float, apart: bool = False) -> None:
        self.job = job
        self.since = since
        self.apart = apart
        self.thread = threading.current_thread()


class Scene:
    """
    A watch on threads that only seem to be.
    """

    def __init__(self, most: int, timeout_seconds: float = 0.0) -> None:
        self.clock = Clock()
        self.seats: list[Place] = []
        self.most = most
        self.waiting = 7
        self.replaced = 0
        readiness: Any = self
        self.watch = ThreadWatch(
            readiness, readiness, timeout_seconds, self.replace, self.clock.seconds
        )

    def call_later(self, delay: float, call: Callable[..., object], *arguments: object) -> None:
        self.clock.callLater(delay, call, *arguments)

    def replace(self) -> None:
        self.replaced += 1

    def wait(self, seconds: int) -> list[str]:
        """
        Let time pass, and give what the log says.
        """
        with logged() as events:
            self.watch.wake()
            self.clock.pump([1.0] * seconds)
        return [formatEvent(event) for event in events]


def test_all_busy_is_told_after_five_seconds_and_once_a_minute() -> None:
    """
    With what they serve, the most frequent first, and what to write.
    """
    scene = Scene(most=3)
    scene.seats = [Place(Call("GET /poll"), 0), Place(Call("GET /poll"), 0)]
    assert not scene.wait(10)
    scene.seats.append(Place(Call("POST /x"), 10))
    assert not scene.wait(5)
    (line,) = scene.wait(2)
    assert "All 3 threads of the WSGI application have been busy for 5 s" in line
    assert "7 more requests wait" in line
    assert "They serve GET /poll (2, for 16 s at most), POST /x (1, for 6 s at most)." in line
    assert "--wsgi-threads 6" in line
    assert not scene.wait(50)
    assert len(scene.wait(12)) == 1


@pytest.mark.parametrize(
    ("most", "advice"),
    [(1, "--wsgi-threads 2 if"), (600, "--wsgi-threads 1000 if"), (1000, "Write more --workers")],
)
def test_the_advice_can_be_followed(most: int, advice: str) -> None:
    """
    There is a highest --wsgi-threads.
    """
    scene = Scene(most)
    scene.seats = [Place(Call(), 0)] * most
    (line,) = scene.wait(10)
    assert advice in line


def test_a_thread_that_rests_meanwhile_is_enough() -> None:
    """
    Busy is who has been busy all the time.
    """
    scene = Scene(most=1)
    for _ in range(5):
        scene.seats = [Place(Call(), 0)]
        assert not scene.wait(4)
        scene.seats = [Place(None, 0)]
        assert not scene.wait(1)


def test_it_looks_only_while_there_is_something() -> None:
    """
    An idle worker is not woken.
    """
    scene = Scene(most=1)
    scene.wait(3)
    assert not scene.clock.getDelayedCalls()


def test_a_stuck_thread_is_shown_once() -> None:
    """
    With its stack; not one that has begun to answer, nor one that is a client's for good.
    """
    scene = Scene(most=9, timeout_seconds=30.0)
    scene.seats = [
        Place(Call(), 0),
        Place(Call("GET /stream", answered=True), 0),
        Place(Call("GET /socket"), 0, apart=True),
    ]
    assert not scene.wait(29)
    (line,) = scene.wait(10)
    assert "not begun to answer GET /slow for 30 s (--request-timeout)" in line
    assert "test_watch.py" in line
    assert not scene.replaced
    # The next request of the same thread is another matter.
    scene.seats[0] = Place(Call("GET /other"), 39)
    (line,) = scene.wait(31)
    assert "GET /other" in line


def test_too_many_stuck_threads_have_the_worker_replaced() -> None:
    """
    Once, when they are more than half.
    """
    scene = Scene(most=4, timeout_seconds=10.0)
    scene.seats = [Place(Call(), 0), Place(Call(), 0)]
    assert len(scene.wait(12)) == 2
    assert scene.replaced == 0
    scene.seats.append(Place(Call(), 12))
    lines = scene.wait(12)
    assert "3 of 4 threads of the WSGI application are stuck" in lines[-1]
    scene.wait(20)
    assert scene.replaced == 1


def test_who_waits_for_a_slow_body_is_not_stuck() -> None:
    """
    Nor as soon as the rest has come; but once it does nothing with what it has got.
    """
    scene = Scene(most=9, timeout_seconds=30.0)
    call = Call(read_at=inf)
    scene.seats = [Place(call, 0)]
    assert not scene.wait(100)
    call.read_at = 100.0
    assert not scene.wait(29)
    (line,) = scene.wait(2)
    assert "not begun to answer GET /slow for 30 s" in line


@pytest.mark.parametrize(
    "body",
    [
        "\r\n",
        "Content-Length: 10\r\n\r\n",
        "Content-Length: 10\r\n\r\nx",
        "Content-Length: 9999999\r\n\r\n" + "x" * 99_999,
    ],
    ids=["none", "to come", "begun", "held"],
)
def test_of_real_threads(body: str) -> None:
    """
    The log names the very line that a thread is stuck in.
    """
    gate = threading.Event()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        gate.wait()  # here it is stuck
        start_response("200 OK", [])
        return [b""]

    options: dict[str, Any] = {
        "threads": 2,
        "timeout_seconds": 0.5,
    }
    with serving(application, **options) as scene, logged() as events:

        async def go() -> None:
            client = scene.visit()
            # Of a body that nobody reads, the client is held back, and the rest never comes.
            await client.send(f"POST /a%20b?secret=1 HTTP/1.1\r\nHost: a\r\n{body}")
            await until(lambda: any("(--request-timeout)" in formatEvent(e) for e in events))
            gate.set()

        scene.run(go)
    text = "\n".join(formatEvent(event) for event in events)
    assert "POST /a%20b for" in text
    assert "gate.wait()  # here it is stuck" in text
    assert "secret" not in text
