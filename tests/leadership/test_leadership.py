"""
Leading and ending to, in a worker and elsewhere.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

import stickyd
from stickyd.leadership.leadership import WORKER, Leadership

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

PATIENCE = 60.0
LEASE = 600.0


class Primary:
    """
    The loop of a worker, which turns when the test says, and what the primary was told.
    """

    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[Callable[..., object], tuple[object, ...]]] = SimpleQueue()
        self.timers: list[Callable[[], object]] = []
        self.told: list[object] = []

    def in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        self.calls.put((call, arguments))

    def start(self, coroutine: Coroutine[Any, Any, object]) -> Deferred[object]:
        return Deferred.fromCoroutine(coroutine)

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        self.timers.append(call)

    def stand(self, stands: bool) -> None:
        self.told.append(stands)

    def ended(self, term: int) -> None:
        self.told.append(term)

    def turn(self) -> list[object]:
        """
        Let the loop turn until it has nothing to do.

        :return: what the primary was told since the last time.
        """
        with suppress(Empty):
            while True:
                self._step(0.0)
        told, self.told = self.told, []
        return told

    def turn_until_told(self) -> list[object]:
        """
        Let the loop turn until the primary is told something: threads are on their way.

        :return: what it was told.
        """
        while not self.told:
            self._step(PATIENCE)
        return self.turn()

    def _step(self, seconds: float) -> None:
        call, arguments = self.calls.get(timeout=seconds)
        call(*arguments)


class Rig:
    """
    The leadership of a worker.
    """

    def __init__(self, opened: bool = True) -> None:
        self.leadership = Leadership()
        self.leadership.forbid()
        self.primary = Primary()
        if opened:
            self.leadership.open(self.primary)
        self.events: list[str] = []

    def subscribe(self, name: str = "", thread: bool = False) -> Any:
        """
        Write down what is called.
        """
        return self.leadership.subscribe(
            lambda: self.events.append(f"begin{name}"),
            lambda: self.events.append(f"end{name}"),
            thread,
        )


@pytest.fixture
def rig() -> Rig:
    """
    One that serves.
    """
    return Rig()


def test_from_the_beginning_to_the_end(rig: Rig) -> None:
    """
    Who subscribes takes part; what was said at the begin holds until the primary is told.
    """
    rig.subscribe()
    assert rig.primary.turn() == [True]
    assert (rig.leadership.leads, rig.leadership.term) == (False, 0)
    rig.leadership.begin(7, LEASE)
    assert (rig.leadership.leads, rig.leadership.term) == (True, 7)
    assert rig.primary.turn() == []
    rig.leadership.leave()
    assert (rig.leadership.leads, rig.leadership.term) == (False, 0)
    assert rig.primary.turn() == [False, 7]
    assert rig.events == ["begin", "end"]


def test_subscribed_at_import() -> None:
    """
    The primary hears of it when the worker serves.
    """
    rig = Rig(opened=False)
    rig.subscribe()
    assert not rig.leadership.leads
    rig.leadership.open(rig.primary)
    assert rig.primary.turn() == [True]


def test_question_takes_part(rig: Rig) -> None:
    """
    Who asks whether this worker leads wants to; the second question says nothing new.
    """
    assert not rig.leadership.leads
    assert not rig.leadership.leads
    assert rig.primary.turn() == [True]
    rig.leadership.begin(7, LEASE)
    rig.leadership.leave()
    assert rig.primary.turn() == [False, 7]


def test_late_subscriber_begins_at_once(rig: Rig) -> None:
    """
    Each has its own beginning and end.
    """
    rig.subscribe("1")
    rig.primary.turn()
    rig.leadership.begin(7, LEASE)
    second = rig.subscribe("2")
    rig.primary.turn()
    second()
    second()
    rig.primary.turn()
    assert rig.events == ["begin1", "begin2", "end2"]
    rig.leadership.leave()
    rig.primary.turn()
    assert rig.events[3:] == ["end1"]


def test_last_subscriber_leaves(rig: Rig) -> None:
    """
    The worker withdraws after a while, if nobody has come meanwhile.
    """
    first = rig.subscribe("1")
    rig.primary.turn()
    rig.leadership.begin(7, LEASE)
    first()
    assert rig.primary.turn() == []
    rig.subscribe("2")
    rig.primary.timers.pop()()
    assert rig.primary.turn() == []
    assert rig.events == ["begin1", "end1", "begin2"]
    rig.leadership._subscriptions[0]()
    rig.primary.turn()
    rig.primary.timers.pop()()
    assert rig.primary.turn() == [False, 7]


def test_relieved_and_not_after_all(rig: Rig) -> None:
    """
    A relieved worker may go on for long with the clients that it knows, and does not lead.
    """
    rig.subscribe()
    rig.primary.turn()
    rig.leadership.begin(7, LEASE)
    rig.leadership.relieve(True)
    assert rig.primary.turn() == [False, 7]
    assert rig.events == ["begin", "end"]
    rig.leadership.relieve(False)
    assert rig.primary.turn() == [True]
    rig.leadership.leave()
    rig.leadership.relieve(False)
    assert rig.primary.turn() == [False]


def test_told_to_lead_when_it_leaves(rig: Rig) -> None:
    """
    The primary did not know yet; nothing begins.
    """
    rig.subscribe()
    rig.primary.turn()
    rig.leadership.leave()
    rig.leadership.begin(7, LEASE)
    assert rig.primary.turn() == [False, 7]
    assert rig.events == []


def test_end_waits(rig: Rig) -> None:
    """
    The next leader begins when all of this one has ended: what its end waits for too.
    """
    job: Deferred[None] = Deferred()
    rig.leadership.subscribe(lambda: None, lambda: job, False)
    rig.subscribe()
    rig.primary.turn()
    rig.leadership.begin(7, LEASE)
    rig.leadership.leave()
    assert rig.primary.turn() == [False]
    assert not rig.leadership.give_up_within(0.0)
    job.callback(None)
    assert rig.primary.turn() == [7]
    assert rig.leadership.give_up_within(0.0)


def test_beginning_that_works_as_long_as_it_leads(rig: Rig) -> None:
    """
    It is cancelled, and the end waits until it has taken note.
    """
    last: Deferred[None] = Deferred()

    async def work() -> None:
        rig.events.append("works")
        try:
            await Deferred()
        finally:
            rig.events.append("cancelled")
            await last
            rig.events.append("over")

    rig.leadership.subscribe(work, lambda: rig.events.append("end"), False)
    rig.primary.turn()
    rig.leadership.begin(7, LEASE)
    rig.primary.turn()
    rig.leadership.leave()
    assert rig.primary.turn() == [False]
    assert rig.events == ["works", "cancelled"]
    last.callback(None)
    assert rig.primary.turn() == [7]
    assert rig.events == ["works", "cancelled", "over", "end"]


def test_what_they_raise_is_logged(rig: Rig) -> None:
    """
    And keeps nobody from leading, nor from ending to.
    """

    async def fail() -> None:
        raise ValueError("of a coroutine")

    rig.leadership.subscribe(lambda: 1 / 0, fail, False)
    rig.leadership.subscribe(lambda: 1 / 0, None, True)
    rig.subscribe()
    rig.primary.turn()
    with capturedLogs() as logged:
        rig.leadership.begin(7, LEASE)
        rig.primary.turn()
        rig.leadership.leave()
        told = rig.primary.turn_until_told()
        assert [*told, *([] if 7 in told else rig.primary.turn_until_told())] == [False, 7]
    failures = [event["log_failure"] for event in logged if event.get("event") == "leader.failed"]
    assert sorted(failure.type.__name__ for failure in failures) == [
        "ValueError", "ZeroDivisionError", "ZeroDivisionError"
    ]  # fmt: skip
    assert rig.events == ["begin", "end"]


def test_threads(rig: Rig) -> None:
    """
    A beginning that works as long as it leads looks whether it does, or is told by the end.
    """
    works, told = threading.Event(), threading.Event()

    def work() -> None:
        works.set()
        assert told.wait(PATIENCE)

    rig.leadership.subscribe(work, told.set, True)
    rig.primary.turn()
    rig.leadership.begin(7, LEASE)
    assert works.wait(PATIENCE)
    rig.leadership.leave()
    assert rig.primary.turn_until_told()[0] is False
    assert rig.leadership.give_up_within(PATIENCE)


def test_stuck_loop(rig: Rig) -> None:
    """
    Without a sign of life of the loop the worker does not lead any more, and threads learn of it,
    before the loop turns again; after that it is told.
    """
    over = threading.Event()
    rig.subscribe()
    rig.leadership.subscribe(lambda: None, over.set, True)
    rig.primary.turn()
    rig.leadership.begin(7, 0.05)
    rig.leadership.renew(0.05)
    assert over.wait(PATIENCE)
    assert not rig.leadership.leads
    assert rig.events == []
    rig.leadership.renew(LEASE)
    assert not rig.leadership.leads
    assert rig.primary.turn_until_told() == [7]
    assert rig.events == ["begin", "end"]
    # It still stands, and may lead again.
    rig.leadership.begin(8, LEASE)
    rig.primary.turn()
    assert rig.leadership.term == 8
    assert rig.events == ["begin", "end", "begin"]


def test_fork_of_a_worker_leads_nothing(rig: Rig) -> None:
    """
    It has another process's word only.
    """
    rig.subscribe()
    rig.primary.turn()
    rig.leadership.begin(7, LEASE)
    rig.leadership.forbid()
    assert not rig.leadership.leads
    rig.subscribe()
    assert rig.primary.turn() == []


def test_child_of_a_worker_leads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nor does a process that a worker has started.
    """
    monkeypatch.setenv(WORKER, "4711")
    leadership = Leadership()
    begun: list[str] = []
    leadership.subscribe(lambda: begun.append("begin"), None, False)
    assert not leadership.leads
    assert (leadership.term, begun) == (0, [])


def printed_outside(code: str) -> str:
    """
    Run a program that stickyd does not, and give what it prints.
    """
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    return run.stdout


def test_outside_of_a_worker() -> None:
    """
    It leads from the first moment on; coroutines need a loop, and the error says so.
    """
    code = (
        "import stickyd\n"
        "told = stickyd.leader.subscribe(lambda: print('begin'), lambda: print('end'))\n"
        "print(stickyd.leader.is_leader(), stickyd.leader.term > 1_700_000_000_000)\n"
        "told()\n"
        "async def work(): pass\n"
        "try:\n"
        "    stickyd.leader.subscribe(work)\n"
        "except stickyd.errors.ApplicationError as problem:\n"
        "    print(problem)\n"
    )
    *lines, problem = printed_outside(code).splitlines()
    assert lines == ["begin", "True True", "end"]
    assert "call it from the application's startup" in problem
    with pytest.raises(AttributeError, match=r"'stickyd\.leader' has no attribute 'terms'"):
        getattr(stickyd.leader, "terms")  # noqa: B009


def test_outside_of_a_worker_in_a_loop() -> None:
    """
    Coroutines run in the loop that runs.
    """

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            cancelled.set()

    async def main() -> None:
        subscription = leadership.subscribe(work, None, False)
        await begun.wait()
        assert not cancelled.is_set()
        subscription()
        await cancelled.wait()

    begun, cancelled = asyncio.Event(), asyncio.Event()
    leadership = Leadership()
    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_outside_of_a_worker_under_twisted() -> None:
    """
    Coroutines of Twisted's run in its reactor.
    """
    code = (
        "from twisted.internet import reactor\n"
        "from twisted.internet.task import deferLater\n"
        "from stickyd import leader\n"
        "async def work():\n"
        "    await deferLater(reactor, 0)\n"
        "    print('worked', leader.is_leader())\n"
        "    reactor.stop()\n"
        "reactor.callWhenRunning(leader.subscribe, work)\n"
        "reactor.run()\n"
    )
    assert printed_outside(code) == "worked True\n"
