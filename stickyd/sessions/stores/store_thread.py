"""
A thread that does what is asked for in batches.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

#: How much is done at a time.
MOST_AT_ONCE = 500


class Job:
    """
    One thing to do.

    :ivar do: does it, in the thread.
    :ivar answer: fires in the loop with what came of it.
    :ivar alone: whether it is done by itself.
    :ivar outcome: what came of it, or a :class:`Failure`.
    """

    __slots__ = ("alone", "answer", "do", "outcome")

    def __init__(self, do: Callable[[], Any], answer: Deferred[Any], alone: bool = False) -> None:
        self.do = do
        self.answer = answer
        self.alone = alone
        self.outcome: Any = None


class StoreThread:
    """
    Takes, each time that it has done something, all that was asked for meanwhile.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[list[Job]], None],
        call_from_thread: Callable[..., object],
    ) -> None:
        """
        :param run: called in the thread with some jobs, or with one that is done alone; puts
            what comes of each into its ``outcome``, and raises nothing.
        :param call_from_thread: has the loop call something.
        """
        self._run = run
        self._call_from_thread = call_from_thread
        self._jobs: deque[Job] = deque()
        self._wake = threading.Semaphore(0)
        self._ended = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def ask(self, job: Job) -> None:
        """
        Have something done, after all that was asked for before.
        """
        self._jobs.append(job)
        self._wake.release()

    def end(self) -> None:
        """
        End the thread when it has done what was asked for.
        """
        self._ended = True
        self._wake.release()

    def _work(self) -> None:
        while True:
            self._wake.acquire()
            jobs: list[Job] = []
            while self._jobs and len(jobs) < MOST_AT_ONCE:
                if jobs and (jobs[0].alone or self._jobs[0].alone):
                    break
                jobs.append(self._jobs.popleft())
            # It was released once for each of them.
            for _ in jobs[1:]:
                self._wake.acquire()
            if jobs:
                self._run(jobs)
                self._call_from_thread(_give, jobs)
            elif self._ended:
                return


def _give(jobs: list[Job]) -> None:
    for job in jobs:
        if isinstance(job.outcome, Failure):
            job.answer.errback(job.outcome)
        else:
            job.answer.callback(job.outcome)
