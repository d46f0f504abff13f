"""
Sessions that are known to be on their way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IReactorTime


class AwaitedSessions:
    """
    The ids of sessions that another worker still uses, and will send here.  It says so again and
    again: what is not said again does not come any more.

    :ivar keys: the affinity key of each, by its id.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.keys: dict[bytes, bytes] = {}
        self._deadlines: dict[bytes, float] = {}
        self._clock = clock
        self._waiting: dict[bytes, list[Deferred[None]]] = {}
        self._come: set[bytes] = set()

    def expect(self, keys: Mapping[bytes, bytes], seconds: float) -> None:
        """
        Expect sessions for so long.

        :param keys: the affinity key of each, by its id.
        """
        self.keys.update(keys)
        self._deadlines.update(dict.fromkeys(keys, self._clock.seconds() + seconds))
        self._clock.callLater(seconds, self._give_up)

    def wait(self, uid: bytes) -> Deferred[None] | None:
        """
        Wait for a session.

        :return: fires when it has come, or is given up; :obj:`None` if it is not expected.
        """
        if uid not in self.keys:
            return None
        waiting: Deferred[None] = Deferred()
        self._waiting.setdefault(uid, []).append(waiting)
        return waiting

    def arrived(self, uid: bytes) -> None:
        """
        Note that a session has come, or does not come any more.
        """
        if self.keys.pop(uid, None) is not None:
            del self._deadlines[uid]
            for waiting in self._waiting.pop(uid, ()):
                if not waiting.called:
                    waiting.callback(None)

    def come(self, uid: bytes) -> None:
        """
        Note that a session has come.
        """
        if uid in self.keys:
            self._come.add(uid)
        self.arrived(uid)

    def left(self, uid: bytes) -> None:
        """
        Note that a session is not here any more, and may come again.
        """
        self._come.discard(uid)

    def has_not_come(self, uid: bytes) -> bool:
        """
        Whether a session that was expected may still be on its way.
        """
        return uid not in self._come

    def _give_up(self) -> None:
        now = self._clock.seconds()
        for uid in [uid for uid, deadline in self._deadlines.items() if deadline <= now]:
            self.arrived(uid)
