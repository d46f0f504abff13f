"""
Where the middlewares of a process find sessions.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyd.sessions.apps.worker_place import WorkerPlace
from stickyd.sessions.record import SessionExpiry

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.sessions.apps.own_place import OwnPlace
    from stickyd.sessions.apps.place import SessionPlace
    from stickyd.sessions.registry import SessionRegistry


class SessionDesk:
    """
    Knows the worker's sessions, where there is one, and else opens a store for each URL.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._worker: SessionPlace | None = None
        self._own: dict[tuple[int, str, float], OwnPlace] = {}
        self._opening = threading.Lock()

    def open(self, registry: SessionRegistry, in_reactor: Callable[..., object]) -> None:
        """
        Called in a worker when it begins to serve.

        :param in_reactor: the reactor's ``callFromThread``.
        """
        self._worker = WorkerPlace(registry, in_reactor)

    def place(self, url: str | None = None, idle_seconds: float = 1800.0) -> SessionPlace:
        """
        Find the sessions of an application.

        :param url: what store to open where no stickyd worker runs; by default this process's
            memory.
        :param idle_seconds: after how long without a use a session is over there.
        :raise stickyd.errors.OperatorError: it cannot be had.
        """
        if self._worker is not None:
            return self._worker
        # Neither threads nor what a store has open go along with a fork.
        which = os.getpid(), url or "memory", idle_seconds
        place = self._own.get(which)
        if place is None:
            with self._opening:
                place = self._own.get(which)
                if place is None:
                    place = self._own[which] = self._make(url, idle_seconds)
        return place

    def close(self) -> None:
        """
        Close all, at the end of a test; nobody may use sessions at the moment.
        """
        with self._opening:
            own, self._own = self._own, {}
            self._worker = None
            for (pid, *_), place in own.items():
                if pid == os.getpid():
                    place.close()

    def _make(self, url: str | None, idle_seconds: float) -> OwnPlace:
        from stickyd.sessions.apps.own_place import OwnPlace
        from stickyd.settings.session_url import parse_session_url

        if url is None:
            self._log.info(
                "sessions: no stickyd worker runs here and no URL of a store was given, so they"
                " are in the memory of this process",
                event="session.in-this-process",
            )
        return OwnPlace(parse_session_url(url or "memory"), SessionExpiry(idle=idle_seconds))


#: The one of this process, as the reactor is: an application that is imported by name has
#: nothing of ours to hold on to.
session_desk = SessionDesk()
