"""
The sessions that one request uses.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import DeferredList
from twisted.python.failure import Failure

from stickyd.errors import NoSuchSession

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from stickyd.sessions.live import LiveSession
    from stickyd.sessions.registry import SessionRegistry
    from stickyd.sessions.web.session import Session


class HeldSessions:
    """
    Keeps sessions from being carried away, until what the request has done to them is saved.
    """

    def __init__(self, registry: SessionRegistry, first: Session) -> None:
        """
        :param first: a session that is kept.
        """
        self._registry = registry
        self._sessions: tuple[Session, ...] = (first,)
        first.live.hold()
        self._work: tuple[Deferred[None], ...] = ()

    def __len__(self) -> int:
        return len(self._sessions)

    def hold(self, session: Session) -> None:
        """
        Keep a session, if it is not kept already.
        """
        if session not in self._sessions:
            session.live.hold()
            self._sessions += (session,)

    def add_work(self, work: Deferred[None]) -> None:
        """
        Have :meth:`settle` wait for something else.
        """
        self._work += (work,)

    def let_go_unchanged(self) -> bool:
        """
        Let go of the sessions if there is nothing to save, and nowhere to send them: most
        requests only look, so no Deferred is made for them.

        :return: whether it was so.
        """
        if self._work or self._registry.forwards:
            return False
        for session in self._sessions:
            if not session.settled:
                return False
        sessions, self._sessions = self._sessions, ()
        for session in sessions:
            session.live.release()
        return True

    def settle(self) -> Deferred[Any]:
        """
        Save all that was done so far, and let go of the sessions.

        :return: fires when they are saved, and where they belong; fails with the first failure
            when all of it has an end.
        """
        work, self._work = self._work, ()
        sessions, self._sessions = self._sessions, ()
        settling = [session.settle().addErrback(_ended_meanwhile) for session in sessions]
        for session, deferred in zip(sessions, settling, strict=True):
            deferred.addBoth(_let_go, self._registry, session.live)
        if not work and len(settling) == 1 and not self._registry.forwards:
            return settling[0]
        return DeferredList([*work, *settling], consumeErrors=True).addCallback(_first_failure)


def _let_go(result: Any, registry: SessionRegistry, live: LiveSession) -> Any:
    following = registry.let_go(live)
    return result if following is None else following.addCallback(lambda _: result)


def _ended_meanwhile(failure: Failure) -> None:
    failure.trap(NoSuchSession)


def _first_failure(results: list[tuple[bool, Any]]) -> Failure | None:
    return next((result for success, result in results if not success), None)
