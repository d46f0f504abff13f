"""
The end of a connection's stay: over, given away, or drained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.handoff.frame import Flag, say_secure
from stickyd.serve.http.incoming import Incoming
from stickyd.serve.http.outgoing import CLOSING, GONE, HEAD, LEAVING, PASSING

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from stickyd.serve.http.context import Take


class Leaving(Incoming):
    """
    Gives the connection away, or lets it end, at the right moment.

    :ivar connected: as of Twisted's protocols.
    :ivar ended: called with the channel when its connection is over or was given away.
    """

    ended: Callable[[Any], object] | None = None
    connected = 0

    _asking = False

    def _forget(self) -> None:
        """
        Be over, for the timer.
        """
        self._state = GONE
        self._request = self._successor = self._partial = None
        self._kept = b""
        self._pending = []
        self.shared.sweep.discard(self)
        if self._half_closed is not None:
            self._half_closed.stop()
        if self._next_pull is not None:
            self._next_pull.cancel()
            self._next_pull = None

    def _tell_ended(self) -> None:
        """
        Be over, for the host: when whoever is concerned has heard of it, since a host
        whose last connection is over lets the worker exit.
        """
        ended, self.ended = self.ended, None
        if ended is not None:
            ended(self)

    @property
    def idle(self) -> bool:
        """
        Whether the connection is between two requests and nothing is left to write.
        """
        return self._state == HEAD and not self._serving and not self._kept and not self._unsent()

    @property
    def busy(self) -> bool:
        """
        Whether a request is under way whose response has not begun: what it does to its
        session is not saved yet.
        """
        request = self._request
        if self._state in (PASSING, CLOSING, GONE):
            return False
        if request is None:
            return bool(self._kept) or self._serving
        return not request.startedWriting

    @property
    def unanswered(self) -> list[Any]:
        """
        The requests under way whose responses have not begun: one, or none.
        """
        request = self._request
        return [] if request is None or request.startedWriting else [request]

    def detach(self) -> tuple[socket, bytes]:
        """
        Give the connection away; see :class:`stickyd.interfaces.IDetachable`.

        :raise RuntimeError: if it is not idle.
        """
        if not self.idle:
            raise RuntimeError("Only an idle connection can be detached.")
        unread = b"" if self._partial is None else bytes(self._partial)
        sock, rest = self._detach()
        self._forget()
        self._tell_ended()
        return sock, unread + rest

    def _detach(self) -> tuple[socket, bytes]:
        self._unregister_self()
        if getattr(self._transport, "can_divert", False) and self.came is not None:
            detached = self._transport.divert(), b""
            host: Any = self.getHost()
            say_secure(self.came, (host.host, host.port) if hasattr(host, "port") else None)
        else:
            detached = self._transport.detach()
        self.connected = 0
        return detached

    def _try_leave(self) -> None:
        """
        Give the connection to whom the route named, once all answers are sent.
        """
        if self._asking:
            return
        try:
            sock, rest = self._detach()
        except RuntimeError:
            # Not all is sent.  As a pull producer we are asked for more when it is; and
            # at once, to no purpose.
            self._expect(self.shared.limits.stall)
            self._asking = True
            self._register_self(False)
            self._asking = False
            return
        take = self._take
        assert take is not None
        unread = self._kept + rest
        self._forget()
        take(sock, unread)
        self._tell_ended()

    def release(self, take: Take) -> None:
        """
        Give the connection away: now if it is between two requests, else when the
        response under way is written.  One whose TLS lives here is drained; what it asks
        meanwhile goes the same way, through a tunnel, as its session has gone it before.
        """
        if not hasattr(self._transport, "detach"):
            if self.came is not None and getattr(self._transport, "can_divert", False):
                self.came.flags |= Flag.LAST
                self._route = lambda head, came: take
            self.drain()
            return
        self._route = lambda head, came: take
        self._leave = take
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._leave is None or self._state != HEAD or self._serving or self._kept:
            return
        self._state = LEAVING
        self._take = self._leave
        if self._partial is not None:
            self._kept = bytes(self._partial)
            self._partial = None
        self._try_leave()

    def drain(self) -> None:
        """
        Close the connection now if it is idle, or after a moment if it is TLS; else after
        the response under way, which says so if its head is not written yet.
        """
        if self._leave is not None:
            # It is given away as soon as it can be, which is better than closed.
            return
        self._draining = True
        self.persistent = False
        if self._state == HEAD and self._partial is None and not self._serving and not self._kept:
            if self.isSecure():
                # Unlike a plain one it is drained at a reload too, and the next request may
                # be on its way: it is answered, and the answer says that it is the last.
                self._expect(self.shared.limits.first)
            else:
                self.loseConnection()
