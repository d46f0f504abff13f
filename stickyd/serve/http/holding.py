"""
Response heads that wait: the client must not learn an id before the primary knows whose
it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.serve.http.leaving import Leaving
from stickyd.serve.http.outgoing import GONE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.defer import Deferred


class Holding(Leaving):
    """
    Collects what a request writes until it may leave.
    """

    _answered = False  # the response that is held is whole
    _paused_by_us = False

    def respond(self, fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """
        Give the fields that a response shall have, and hold it back if it must wait.
        """
        visit, self._visit = self._visit, None
        if visit is None:
            return list(fields)
        pairs = visit.respond(fields)
        if visit.claiming is not None:
            self._hold(visit.claiming)
        return pairs

    def _hold(self, until: Deferred[None]) -> None:
        # Answers before it need not wait.
        self._flush()
        self._held = self._corked = True
        if not self._waiting:
            # As if the transport were full, so that producers wait too.
            self._waiting = self._paused_by_us = True
            if self._producer is not None and not self._pulls:
                self._producer.pauseProducing()
        until.addBoth(self._let_go)

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Called by the transport when it holds too much.
        """
        if self._held:
            self._paused_by_us = False
        else:
            super().pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Called by the transport when it has room again.
        """
        if self._held:
            self._paused_by_us = True
        else:
            super().resumeProducing()

    def _let_go(self, _: object) -> None:
        """
        Send what waited.
        """
        if not self._held or self._state == GONE:
            return
        self._held = False
        resume, self._paused_by_us = self._paused_by_us, False
        if resume:
            self._waiting = False
        if not self._serving:
            self._uncork()
        if resume and not self._waiting and self._producer is not None:
            super().resumeProducing()
        if self._answered:
            self._answered = False
            self._next()

    def _next(self) -> None:
        """
        Go on after a response.
        """
        raise NotImplementedError
