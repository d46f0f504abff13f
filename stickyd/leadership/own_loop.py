"""
The loop of a worker, for what the application asks before that runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from twisted.internet.defer import Deferred

    from stickyd.leadership.interfaces import Surroundings


class OwnLoop:
    """
    Stands for the loop until there is one.  Nothing has to be called in it before: nobody leads.
    """

    def __init__(self) -> None:
        self._loop: Surroundings | None = None

    def open(self, loop: Surroundings) -> None:
        """
        Called when the loop runs.
        """
        self._loop = loop

    def in_loop(self, call: Callable[..., object], *arguments: object) -> None:
        if self._loop is not None:
            self._loop.in_loop(call, *arguments)

    def start(self, coroutine: Coroutine[Any, Any, object]) -> Deferred[object]:
        assert self._loop is not None
        return self._loop.start(coroutine)
