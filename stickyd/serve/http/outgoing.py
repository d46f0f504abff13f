"""
The side of the channel that requests write to.

What is written while the channel serves input is collected and leaves as one write when
it is done: a short response is one system call, and so are several pipelined ones.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger

from stickyd.handoff.frame import Flag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.interfaces import IAddress

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.context import Shared
    from stickyd.serve.stickiness import Exchange

_FLUSH = 65536
"""Collected bytes that are written at once, so that a full transport is noticed."""

# States.  HEAD waits for a head; BODY reads a body; BUSY waits for the application;
# PASSING gives all input to the protocol of an upgrade; LEAVING waits to be detached;
# CLOSING drops all input; GONE is over.
HEAD, BODY, BUSY, PASSING, LEAVING, CLOSING, GONE = range(7)


class Outgoing:
    """
    Writing to a transport, and closing it.

    :ivar shared: what all channels of the worker share.
    :ivar persistent: whether another request may follow the current one.
    :ivar deadline: for the sweep.
    :ivar bucket: for the sweep.
    :ivar came: the handoff that brought the connection, if one did.
    """

    _log = Logger()

    persistent = True
    deadline = inf
    bucket = 0
    came: Handoff | None = None

    _transport: Any = None
    _state = HEAD
    _corked = False
    _waiting = False  # our transport is full
    _pending_bytes = 0
    _unsent_before = inf
    _registered = False  # with our transport
    _wrote = False
    _reading = True
    _client: IAddress | None = None  # as a trusted proxy tells it, of this request
    _secure: bool | None = None  # the same, if anybody has looked
    _visit: Exchange | None = None  # of this request
    _held = False  # the response waits, see Holding

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self._pending: list[bytes] = []

    @property
    def transport(self) -> Any:
        """
        The transport, for those who take it over.  What was collected for it leaves
        first, and nothing more is collected in this turn.
        """
        if self._corked:
            self._uncork()
        return self._transport

    @transport.setter
    def transport(self, transport: Any) -> None:
        self._transport = transport

    # ITransport

    def write(self, data: bytes) -> None:
        """
        Write to the client, or collect it.

        :raise TypeError: if it is not bytes.
        """
        if data.__class__ is not bytes:
            data = bytes(memoryview(data))
        if self._corked:
            self._pending.append(data)
            self._pending_bytes += len(data)
            if self._pending_bytes > _FLUSH and not self._held:
                self._flush()
            return
        if self._wrote:
            self._stop_delaying()
        self._wrote = True
        self._transport.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:  # noqa: N802 - Twisted's name
        """
        Write several pieces at once.
        """
        self.write(b"".join(iovec))

    def getPeer(self) -> IAddress:  # noqa: N802 - Twisted's name
        """
        Give the client's address.
        """
        address: IAddress = self._client or self._transport.getPeer()
        return address

    def getHost(self) -> IAddress:  # noqa: N802 - Twisted's name
        """
        Give our own address.
        """
        address: IAddress = self._transport.getHost()
        return address

    def isSecure(self) -> bool:  # noqa: N802 - Twisted's name
        """
        Tell whether the client speaks TLS.
        """
        if self._secure is not None:
            return self._secure
        if self.came is not None and self.came.flags & Flag.HTTPS:
            return True
        return ISSLTransport.providedBy(self._transport)

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        """
        Close the connection after what has been written.
        """
        if self._state >= CLOSING:
            return
        self._state = CLOSING
        self._flush()
        # Without a look into its buffer a transport is left to itself: a long response
        # to a slow client must not be cut off.
        self._expect(self.shared.limits.stall if self._tells_unsent() else None)
        self._unregister_self()
        self._transport.loseConnection()

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """
        Close the connection now.
        """
        if self._state == GONE:
            return
        self._state = CLOSING
        self._unregister_self()
        abort = getattr(self._transport, "abortConnection", None)
        if abort is None:
            self._transport.loseConnection()
        else:
            abort()

    def _linger(self) -> None:
        """
        Close the connection, but drop for a while what the client is still sending: a
        close with input unread is a reset, which takes our answer with it.
        """
        transport = self._transport
        half_close = getattr(transport, "loseWriteConnection", None)
        if hasattr(transport, "lingering"):
            transport.lingering = True
            half_close = None
        if half_close is None or ISSLTransport.providedBy(transport):
            # TLS has an exchange of its own at the end; half a close below it breaks that.
            self.loseConnection()
            return
        self._state = CLOSING
        self._flush()
        self._expect(self.shared.limits.stall if self._waiting else self.shared.limits.linger)
        self._unregister_self()
        self._read_on()
        half_close()

    def _register_self(self, streaming: bool) -> None:
        register = getattr(self._transport, "registerProducer", None)
        if register is not None:
            self._registered = True
            register(self, streaming)

    def _unregister_self(self) -> None:
        if self._registered:
            self._registered = False
            self._transport.unregisterProducer()

    def _stop_delaying(self) -> None:
        # Nagle's algorithm holds back a second small write until the first is
        # acknowledged; most connections never get there, and save the system call.
        self._stop_delaying = _done  # type: ignore[method-assign]  # once per connection
        set_no_delay = getattr(self._transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)

    # Corks.

    def _flush(self) -> None:
        pending = self._pending
        if not pending:
            return
        size = self._pending_bytes
        self._pending = []
        self._pending_bytes = 0
        if self._wrote:
            self._stop_delaying()
        self._wrote = True
        if len(pending) == 1:
            self._transport.write(pending[0])
        elif size <= _FLUSH:
            self._transport.write(b"".join(pending))
        else:
            self._transport.writeSequence(pending)

    def _uncork(self) -> None:
        if self._held:
            return
        self._corked = False
        self._flush()

    def _read_no_more(self) -> None:
        if self._reading:
            pause = getattr(self._transport, "pauseProducing", None)
            if pause is not None:
                self._reading = False
                pause()

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self._transport.resumeProducing()

    def _tells_unsent(self) -> bool:
        return hasattr(self._transport, "get_write_buffer_size")

    def _unsent(self) -> int:
        """
        Ask the transport, if it can tell, how many bytes it has not sent yet.
        """
        size = getattr(self._transport, "get_write_buffer_size", None)
        return 0 if size is None else size()

    def _takes_something(self) -> bool:
        """
        Tell whether the client has taken some of what is written since the last look.
        """
        unsent, before = self._unsent(), self._unsent_before
        self._unsent_before = unsent
        return 0 < unsent < before

    def _expect(self, seconds: float | None) -> None:
        """
        Expire in so many seconds, whatever was the deadline before.
        """
        if self._state == GONE:
            return
        sweep = self.shared.sweep
        self.deadline = inf if seconds is None else sweep.now + seconds
        sweep.hasten(self)

    def expire(self) -> None:
        """
        Called by the sweep when the deadline has passed.
        """
        raise NotImplementedError


def _done() -> None:
    """
    Take the place of what is done once.
    """
