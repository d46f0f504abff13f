"""
For how long a client may take nothing of what is written to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.interfaces import IReadiness


class StallTimer:
    """
    Calls back when output has waited for so long, and the client has taken none of it.

    It looks once in that time, so it may take up to twice as long to notice.
    """

    def __init__(
        self, readiness: IReadiness, seconds: float, stalled: Callable[[], object]
    ) -> None:
        """
        Begin.

        :param seconds: how long the client may take nothing.
        :param stalled: called once it has.
        """
        self._readiness = readiness
        self._seconds = seconds
        self._stalled = stalled
        self._took_some = False
        self._timer: Any = readiness.call_later(seconds, self._look)

    def note_taking(self) -> None:
        """
        Give the client its time anew, as it has taken some.
        """
        self._took_some = True

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._took_some:
            self._took_some = False
            self._timer = self._readiness.call_later(self._seconds, self._look)
        else:
            self._stalled()
