"""
Where an application's sessions are, and how they are reached from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from stickyd.sessions.apps.unit_of_work import UnitOfWork
    from stickyd.sessions.registry import SessionRegistry


class SessionPlace(Protocol):
    """
    A registry, in a loop that may be another thread's.

    :ivar registry: for those who are in its loop.
    """

    registry: SessionRegistry

    async def ask(self, function: Callable[..., Deferred[Any]], *arguments: Any) -> Any:
        """
        Call a function in the registry's loop, from a task of asyncio's.

        :return: what its Deferred fires with.
        """

    def expect(self, unit: UnitOfWork) -> None:
        """
        Keep the session of a unit of work from being carried away before it is loaded, which
        may be at any time; from a thread.  :meth:`leave` ends that.
        """

    def leave(self, unit: UnitOfWork) -> None:
        """
        Have a unit of work let go of its session, from a thread; it waits only if the session
        has to go somewhere.
        """

    def wait(self, function: Callable[..., Deferred[Any]], *arguments: Any) -> Any:
        """
        Call a function in the registry's loop, from a thread, which waits.

        :return: what its Deferred fires with.
        :raise RuntimeError: the thread is the loop's own, and would wait for itself.
        """
