"""
The session of a WSGI application's request.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from stickyd.errors import SessionConflict
from stickyd.sessions.apps.app_session import (
    MOST_TRANSACTIONS,
    AppSession,
    pause_seconds,
    too_often,
)
from stickyd.sessions.apps.tracked import TrackedData

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.sessions.apps.place import SessionPlace
    from stickyd.sessions.apps.unit_of_work import UnitOfWork


class WsgiSession(AppSession):
    """
    What ``environ["stickyd.session"]`` is: a dict that is loaded at its first use, and saved by
    itself when the response begins, and at its end.

    It is one request's own, for the thread that handles it; another request of the same client
    has another one, and what both do is merged when they are saved.
    """

    def __init__(self, place: SessionPlace, unit: UnitOfWork) -> None:
        """
        :param place: where ``unit`` is.
        """
        super().__init__(place, unit, load=self._fetch)
        if unit.named:
            place.expect(unit)

    def _fetch(self) -> bytes:
        if not self._unit.named:
            return b"{}"
        with self.noting_failures():
            text: bytes = self._place.wait(self._unit.load)
        return text

    def save(self) -> None:
        """
        Write what has changed, if anything has.

        :raise Exception: as :meth:`stickyd.sessions.apps.asgi_session.AsgiSession.save`.
        """
        with self.noting_failures():
            if self.pending:
                self.saved(self._place.wait(self._unit.save, self, self._flushed, self._new_id))

    def finish(self, idle_seconds: float | None = None) -> None:
        """
        Do the same, and let go of the session; for whoever has made it.

        :param idle_seconds: after how long without a use it is over, if that shall change.
        """
        with self.noting_failures():
            unit = self._unit
            if self.pending:
                self.saved(
                    self._place.wait(unit.finish, self, self._flushed, self._new_id, idle_seconds)
                )
            self._place.leave(unit)

    def abandon(self) -> None:
        """
        Let go of the session without saving it; for whoever has made it.
        """
        self._place.leave(self._unit)

    def transact(self, function: Callable[[TrackedData], Any]) -> Any:
        """
        Change the session by a function, as
        :meth:`stickyd.sessions.apps.asgi_session.AsgiSession.transact`.
        """
        self._use()
        self.save()
        with self.noting_failures():
            for attempt in range(MOST_TRANSACTIONS):
                trial = TrackedData(self._place.wait(self._unit.fresh))
                result = function(trial)
                keys = trial.changes()
                if not keys:
                    return result
                try:
                    text = self._place.wait(self._unit.commit, trial)
                except SessionConflict:
                    time.sleep(pause_seconds(attempt))
                    continue
                self.mark_modified()
                self.absorb(text, keys)
                return result
            raise too_often()
