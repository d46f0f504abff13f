"""
The transport of a connection, whichever it is: our own, Twisted's, or a test's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ISSLTransport

from stickyd.handoff.frame import Flag, say_secure

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.reader import Reader


class Link:
    """
    Whether a transport is read, who is told that it is full, and how the connection leaves it.

    :ivar transport: the transport, once there is one.
    :ivar handoff: what brought the connection, if anything did.
    :ivar reading: it is not paused.
    """

    transport: Any = None

    _watched = False
    _waiting = False  # leave_or_wait() is at work

    def __init__(self, handoff: Handoff | None = None) -> None:
        self.handoff = handoff
        self.reading = True

    def call(self, write: Callable[[], object]) -> None:
        """
        Call something that writes, and perhaps closes the connection; both take effect when it
        has returned, if the transport can do that.
        """
        call = getattr(self.transport, "call", None)
        if call is None:
            write()
        else:
            call(write)

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
        Have no producer told any more.
        """
        if self._watched:
            self._watched = False
            self.transport.unregisterProducer()

    @property
    def watched(self) -> bool:
        """
        Whether its loop looks for input already, as far as can be told.
        """
        watched: bool = getattr(self.transport, "watched", True)
        return watched

    def close(self, lingering: bool) -> bool:
        """
        Close it behind what was written.

        :param lingering: drop for a while what the client is still sending: a close with input
            unread is a reset, which takes our answer with it.
        :return: whether only our half is closed, so that the caller must close the rest later.
        """
        transport = self.transport
        if not lingering:
            finish = getattr(transport, "finish", None)
            if finish is not None:
                self._watched = False
                finish()
                return False
        self.unwatch()
        if lingering and not self._lingers():
            self.resume()
            transport.loseWriteConnection()
            return True
        transport.loseConnection()
        return False

    def _lingers(self) -> bool:
        """
        Have the coming close linger, if the transport sees to that.

        :return: whether it does, or cannot be half-closed.
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
        Whether the socket can be taken from it: not from TLS, whose keys would stay here.
        """
        return hasattr(self.transport, "detach")

    @property
    def can_divert(self) -> bool:
        """
        Whether the plain text of its TLS can go elsewhere.
        """
        return bool(getattr(self.transport, "can_divert", False))

    @property
    def takes_files(self) -> bool:
        """
        Whether it is plain, and sends files.
        """
        return self.can_detach and hasattr(self.transport, "send_file")

    def leave(self, reader: Reader) -> tuple[socket, bytes]:
        """
        Take the connection from the transport, which is dead then.  If its TLS stays here, the
        handoff is told.

        :param reader: what it has not given out goes too.
        :return: the socket, which the caller closes, and what was read and not consumed.
        :raise RuntimeError: if not all is sent; nothing has changed then.
        """
        self.unwatch()
        handoff = self.handoff
        sock: socket
        if handoff is None or not self.can_divert:
            sock, rest = self.transport.detach()
            return sock, reader.take_rest() + rest
        sock = self.transport.divert()
        host = self.transport.getHost()
        say_secure(handoff, (host.host, host.port) if hasattr(host, "port") else None)
        return sock, reader.take_rest()

    def leave_or_wait(self, reader: Reader, producer: Any) -> tuple[socket, bytes] | None:
        """
        Take the connection from the transport as :meth:`leave` does, if all is sent.

        :param producer: what has its ``resumeProducing()`` called when all is; it tries again.
        :return: :obj:`None` if not all is sent.
        """
        if self._waiting:
            return None
        try:
            return self.leave(reader)
        except RuntimeError:
            # A pull producer is asked for more when all is sent.  It is asked at once too,
            # which must not come here again.
            self._waiting = True
            self.watch(producer, False)
            self._waiting = False
            return None

    @property
    def secure(self) -> bool:
        """
        Whether the client speaks TLS, here or where the connection was before.
        """
        handoff = self.handoff
        if handoff is not None and handoff.flags & Flag.HTTPS:
            return True
        return not self.can_detach and ISSLTransport.providedBy(self.transport)
