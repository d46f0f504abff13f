"""
The transport of a connection, whichever it is: our own, Twisted's, or a test's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ISSLTransport

from stickyd.handoff.frame import Flag, say_secure

if TYPE_CHECKING:
    from socket import socket

    from stickyd.handoff.frame import Handoff


class Link:
    """
    Whether a transport is read, who is told that it is full, and how the connection leaves it.

    :ivar transport: the transport, once there is one.
    :ivar reading: it is not paused.
    """

    transport: Any = None
    reading = True

    _watched = False
    _waiting = False  # leave_or_wait() is at work

    def pause(self) -> None:
        """
        Have it read no more, if it can be paused.
        """
        if self.reading:
            pause = getattr(self.transport, "pauseProducing", None)
            if pause is not None:
                self.reading = False
                pause()

    def resume(self) -> None:
        """
        Have it read on.
        """
        if not self.reading:
            self.reading = True
            self.transport.resumeProducing()

    def watch(self, producer: Any, streaming: bool) -> None:
        """
        Have a producer told when the transport is full, or empty.
        """
        register = getattr(self.transport, "registerProducer", None)
        if register is not None:
            self._watched = True
            register(producer, streaming)

    def unwatch(self) -> None:
        """
        Have nobody told any more.
        """
        if self._watched:
            self._watched = False
            self.transport.unregisterProducer()

    def close(self) -> None:
        """
        Close it behind what was written.
        """
        self.unwatch()
        self.transport.loseConnection()

    def half_close(self) -> None:
        """
        Send the end, and read on.
        """
        self.unwatch()
        self.resume()
        self.transport.loseWriteConnection()

    def let_linger(self) -> bool:
        """
        Have the coming close drop for a while what the client is still sending: a close with
        input unread is a reset, which takes our answer with it.

        :return: whether the transport sees to that, or cannot; else it is to be half-closed.
        """
        transport = self.transport
        if hasattr(transport, "lingering"):
            transport.lingering = True
            return True
        # TLS has an exchange of its own at the end; half a close below it breaks that.
        return not hasattr(transport, "loseWriteConnection") or ISSLTransport.providedBy(transport)

    # Leaving.

    @property
    def can_detach(self) -> bool:
        """
        Whether there is no TLS here, which would have to stay.
        """
        return hasattr(self.transport, "detach")

    @property
    def can_divert(self) -> bool:
        """
        Whether the plain text of its TLS can go elsewhere.
        """
        return bool(getattr(self.transport, "can_divert", False))

    def leave(self, handoff: Handoff | None) -> tuple[socket, bytes]:
        """
        Take the connection from the transport, which is dead then.

        :param handoff: the handoff that brought it, which is told if its TLS stays here.
        :return: the socket, which the caller closes, and what was read and given to nobody.
        :raise RuntimeError: if not all is sent; nothing has changed then.
        """
        self.unwatch()
        if handoff is None or not self.can_divert:
            detached: tuple[socket, bytes] = self.transport.detach()
            return detached
        sock: socket = self.transport.divert()
        host = self.transport.getHost()
        say_secure(handoff, (host.host, host.port) if hasattr(host, "port") else None)
        return sock, b""

    def leave_or_wait(self, handoff: Handoff | None, producer: Any) -> tuple[socket, bytes] | None:
        """
        Take the connection from the transport as :meth:`leave` does, if all is sent.

        :param producer: what has its ``resumeProducing()`` called when all is; it tries again.
        :return: :obj:`None` if not all is sent.
        """
        if self._waiting:
            return None
        try:
            return self.leave(handoff)
        except RuntimeError:
            # As a pull producer it is asked for more when all is sent; and at once, to no
            # purpose.
            self._waiting = True
            self.watch(producer, False)
            self._waiting = False
            return None

    def is_secure(self, handoff: Handoff | None) -> bool:
        """
        Tell whether the client speaks TLS, here or where it came from.
        """
        if handoff is not None and handoff.flags & Flag.HTTPS:
            return True
        return ISSLTransport.providedBy(self.transport)
