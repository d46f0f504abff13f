"""
What the leadership of a process needs of where it runs: a worker, or any other process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from twisted.internet.defer import Deferred


class Surroundings(Protocol):
    """
    The loop of the process.
    """

    def in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        """
        Call something in the loop's thread, in a later turn, and in the order in which this is
        called; from any thread.
        """

    def start(self, coroutine: Coroutine[Any, Any, object]) -> Deferred[object]:
        """
        Have a coroutine run in the loop; called in its thread.

        :return: fires, or fails, as it ends; to cancel it cancels the coroutine.
        """


class Primary(Surroundings, Protocol):
    """
    The loop of a worker, and its way to the primary; all else is called in the loop's thread.
    """

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """
        Call something after a while.
        """

    def stand(self, stands: bool) -> None:
        """
        Tell that this worker wants to lead, or does not any more.
        """

    def ended(self, term: int) -> None:
        """
        Tell that this worker does not lead any more.
        """
