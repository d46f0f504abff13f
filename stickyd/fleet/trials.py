"""
Trials that go on beside the reactor, and end when the server stops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.threads import deferToThreadPool

from stickyd.fleet.preflight import without_signals

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class ITrial(Protocol):
    """
    One trial: of an application, or of the new code of the primary.
    """

    def run(self) -> None:
        """
        Try it, in a thread.

        :raises OperatorError: says why it will not do; or that it was cancelled.
        """

    def cancel(self) -> None:
        """
        Have :meth:`run`, in another thread, end its child and fail within a moment.
        """


class Trials:
    """
    Runs trials in threads of the reactor's pool.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._running: list[ITrial] = []

    def run(self, trial: ITrial) -> Deferred[None]:
        """
        Run one.

        :return: fires, or fails, as its ``run`` returns.
        """
        self._running.append(trial)
        done: Deferred[None] = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), without_signals, trial.run
        )
        return done.addBoth(self._ended, trial)

    def _ended(self, outcome: Any, trial: ITrial) -> Any:
        self._running.remove(trial)
        return outcome

    def cancel(self) -> None:
        """
        End all that go on: the server stops, and the reactor waits for their threads.
        """
        for trial in self._running:
            trial.cancel()
