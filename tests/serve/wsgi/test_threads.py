"""
Threads that come and go with the work.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.serve.wsgi.delivery_queue import DeliveryQueue
from stickyd.serve.wsgi.threads import ApplicationThreads, Seat
from tests.hosting import LOOPS, a_loop, fired, logged, run, until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


class Work:
    """
    A job, which puts itself into the queue for the loop when it is done.

    :ivar thread: the one that did it.
    """

    def __init__(self, scene: Scene, act: Callable[[], object] = lambda: None) -> None:
        self._scene = scene
        self._act = act
        self.thread = ""
        self.delivered = False

    def run(self, seat: Seat) -> None:
        """
        Do it.
        """
        self.thread = threading.current_thread().name
        self._act()
        self._scene.responses.put(self)

    def deliver(self) -> None:
        """
        Come back into the loop.
        """
        self.delivered = True


class Scene:
    """
    Threads on a loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int, **how: Any) -> None:
        self.loop = loop
        self.responses = DeliveryQueue(loop.call_soon_threadsafe)
        limit = how.pop("queue_limit", 1000)
        readiness: Any = loop
        self.threads = ApplicationThreads(
            readiness, loop.call_soon_threadsafe, most, limit, self.responses, **how
        )

    def submit(self, act: Callable[[], object] = lambda: None) -> Work:
        """
        Have something done.
        """
        work = Work(self, act)
        assert self.threads.submit(work)
        return work

    def run(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """
        Run a test, then stop.
        """

        async def go() -> None:
            await test()
            await fired(self.threads.stop())
            await until(lambda: not any(t.name.startswith("wsgi-") for t in threading.enumerate()))

        run(self.loop, go())


@contextmanager
def scene_of(most: int, kind: str = "uvloop", **how: Any) -> Iterator[Scene]:
    """
    Threads, so many at most.
    """
    with a_loop(kind) as loop:
        yield Scene(loop, most, **how)


@pytest.mark.parametrize("kind", LOOPS)
def test_small_jobs_need_one_thread(kind: str) -> None:
    """
    However many come at once, or one after the other.
    """
    with scene_of(8, kind) as scene:

        async def go() -> None:
            first = scene.submit()
            await until(lambda: first.delivered)
            threads = set()
            for count in (1, 1, 1, 50, 1, 200):
                jobs = [scene.submit() for _ in range(count)]
                await until(lambda jobs=jobs: all(job.delivered for job in jobs))  # type: ignore[misc]  # no type for a default
                threads |= {job.thread for job in jobs}
            assert "wsgi-1" in threads
            # Another may be made while the system has no time for the first.
            assert len(threads) < 4

        scene.run(go)


@pytest.mark.parametrize("kind", LOOPS)
def test_jobs_that_wait_have_more_threads_made(kind: str) -> None:
    """
    Up to the bound; what is quick is not kept waiting by what is not.
    """
    gate = threading.Event()
    with scene_of(20, kind) as scene:

        async def go() -> None:
            waiting = [scene.submit(gate.wait) for _ in range(19)]
            quick = scene.submit()
            await until(lambda: quick.delivered)
            assert not any(job.delivered for job in waiting)
            more = [scene.submit(gate.wait) for _ in range(5)]
            await until(lambda: scene.threads.waiting == 4)
            assert scene.threads.count == 20
            gate.set()
            await until(lambda: all(job.delivered for job in waiting + more))

        scene.run(go)


def test_responses_do_not_wait_for_the_next_job() -> None:
    """
    Of two jobs of one turn the second may take its time.
    """
    gate = threading.Event()
    with scene_of(1) as scene:

        async def go() -> None:
            quick, slow = scene.submit(), scene.submit(gate.wait)
            await until(lambda: quick.delivered)
            assert not slow.delivered
            gate.set()
            await until(lambda: slow.delivered)

        scene.run(go)


def test_idle_threads_end_but_for_one() -> None:
    """
    After they have rested for long enough.
    """
    gate = threading.Event()
    with scene_of(10, rest_seconds=0.05) as scene:

        async def go() -> None:
            jobs = [scene.submit(gate.wait) for _ in range(10)]
            await until(lambda: scene.threads.count == 10)
            gate.set()
            await until(lambda: all(job.delivered for job in jobs))
            await until(lambda: scene.threads.count <= 1)
            again = scene.submit()
            await until(lambda: again.delivered)

        scene.run(go)


def test_the_queue_is_bounded() -> None:
    """
    It refuses what it has no room for, and nothing else.
    """
    gate = threading.Event()
    with scene_of(1, queue_limit=2) as scene:

        async def go() -> None:
            first = scene.submit(gate.wait)
            await until(lambda: not scene.threads.waiting)
            waiting = [scene.submit(), scene.submit()]
            assert not scene.threads.submit(Work(scene))
            gate.set()
            await until(lambda: all(job.delivered for job in [first, *waiting]))
            await until(lambda: scene.threads.submit(Work(scene)))

        scene.run(go)


@pytest.mark.parametrize(("most", "queue_limit"), [(1, 0), (2, 0), (3, 2)])
def test_the_queue_is_bounded_for_a_crowd(most: int, queue_limit: int) -> None:
    """
    Also for those that come in one turn of the loop, before a thread could take any; whether
    threads must be made, or rest.
    """
    with scene_of(most, queue_limit=queue_limit) as scene:

        async def crowd() -> None:
            gate = threading.Event()
            works = [Work(scene, gate.wait) for _ in range(most + queue_limit + 5)]
            taken = [scene.threads.submit(work) for work in works]
            assert taken == [True] * (most + queue_limit) + [False] * 5
            gate.set()
            await until(lambda: all(work.delivered for work in works[: most + queue_limit]))
            await until(lambda: len(scene.threads._resting) == scene.threads.count)

        async def go() -> None:
            await crowd()
            await crowd()

        scene.run(go)


def test_a_stop_finishes_what_there_is() -> None:
    """
    Also what waits.
    """
    gate = threading.Event()
    with scene_of(2) as scene:
        jobs: list[Work] = []

        async def go() -> None:
            jobs.extend(scene.submit(gate.wait) for _ in range(5))
            stopped = scene.threads.stop()
            await asyncio.sleep(0.01)
            assert not stopped.called
            gate.set()
            await fired(stopped)
            scene.responses.deliver()
            assert all(job.delivered for job in jobs)

        scene.run(go)


def test_a_job_that_raises_ends_no_thread() -> None:
    """
    It must not; but if it does, the log says so.
    """

    def fail() -> None:
        raise ValueError("boom")

    with scene_of(1) as scene, logged() as events:

        async def go() -> None:
            scene.submit(fail)
            after = scene.submit()
            await until(lambda: after.delivered)

        scene.run(go)
    assert len([event for event in events if "log_failure" in event]) == 1


def test_threads_apart_do_not_count() -> None:
    """
    Another takes the place; and afterwards there are no more than there may be.
    """
    gate = threading.Event()
    with scene_of(1) as scene:

        class Apart(Work):
            def run(self, seat: Seat) -> None:
                scene.threads.set_apart(seat)
                super().run(seat)

        async def go() -> None:
            apart = [Apart(scene, gate.wait) for _ in range(5)]
            for job in apart:
                assert scene.threads.submit(job)
            quick = scene.submit()
            await until(lambda: quick.delivered)
            assert len(scene.threads.seats) == 6
            gate.set()
            await until(lambda: all(job.delivered for job in apart))
            await until(lambda: len(scene.threads.seats) == 1)

        scene.run(go)
