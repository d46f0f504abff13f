"""
Who is interested in a session, and who must not be disturbed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.sessions.record import EndReason


class Watched:
    """
    What may end or leave, has those who want to hear of it, and those who use it now.

    :ivar ended: why it is no longer here, or :obj:`None` while it is.
    """

    _log = Logger()

    __slots__ = ("_holders", "_on_gone", "_on_leaving", "_released", "ended")

    def __init__(self) -> None:
        self.ended: EndReason | None = None
        self._holders = 0
        # Tuples, as most stay empty and there may be a hundred thousand sessions.
        self._on_gone: tuple[Callable[[EndReason], object], ...] = ()
        self._on_leaving: tuple[Callable[[], object], ...] = ()
        self._released: tuple[Deferred[None], ...] = ()

    def call_when_gone(self, callback: Callable[[EndReason], object]) -> None:
        """
        Have ``callback`` called with the reason when the session is no longer here.
        """
        self._on_gone += (callback,)

    def call_before_leaving(self, callback: Callable[[], object]) -> None:
        """
        Have ``callback`` called before the session is carried to another worker, perhaps
        more than once.  It may still put into ``data`` what shall go along.
        """
        self._on_leaving += (callback,)

    @property
    def held(self) -> bool:
        """
        Whether somebody is using it, so that it must not be carried away now.
        """
        return self._holders > 0

    def hold(self) -> None:
        """
        Say that it is in use and changes may follow: it is not carried away before
        :meth:`release` was called as often as this.
        """
        self._holders += 1

    def release(self) -> None:
        """
        Say that what :meth:`hold` announced is done, and saved.
        """
        self._holders -= 1
        if not self._holders:
            waiting, self._released = self._released, ()
            for deferred in waiting:
                deferred.callback(None)

    def when_released(self) -> Deferred[None]:
        """
        :return: fires when nobody holds it, at once if nobody does.
        """
        if not self._holders:
            return succeed(None)
        deferred: Deferred[None] = Deferred()
        self._released += (deferred,)
        return deferred

    def leave(self) -> None:
        """
        Get ready to be carried to another worker: for the registry alone.
        """
        for callback in self._on_leaving:
            try:
                callback()
            except Exception:  # noqa: BLE001 -- the application's code; the session leaves anyway
                self._log.failure("session: a callback before the session leaves has failed")

    def end(self, reason: EndReason) -> None:
        """
        Note that it is no longer here: for the registry alone.
        """
        self.ended = reason
        callbacks, self._on_gone = self._on_gone, ()
        for callback in callbacks:
            try:
                callback(reason)
            except Exception:  # noqa: BLE001 -- the application's code; the others must be called
                self._log.failure("session: a callback at the session's end has failed")
