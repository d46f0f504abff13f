"""
How an ASGI connection leaves this worker: as soon as nothing is under way on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.handoff.frame import say_secure
from stickyd.net.asyncio_transport import LoopTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.context import Take

#: Seconds until a connection that shall be given away is looked at again, while the client
#: has not taken all of its answer.
UNSENT_SECONDS = 0.1


def is_quiet(transport: Any) -> bool:
    """
    Whether a socket can be taken out of its transport: nothing waits to be written.  Never on
    TLS.
    """
    return (
        isinstance(transport, LoopTransport)
        and not transport.is_closing()
        and transport.get_write_buffer_size() == 0
    )


class Departure:
    """
    One connection that somebody waits for.

    :ivar routed: whether its next request is somebody else's; so it goes in any case, and even
        on TLS, which stays here as a tunnel.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: Any,
        handoff: Handoff,
        take: Take,
        goes: Callable[[Handoff], bool] | None,
        under_way: Callable[[], bool],
        let_go: Callable[[], bytes],
        stay: Callable[[], object],
    ) -> None:
        """
        :param take: gets the socket, which it closes from then on, and what was read and not
            consumed.
        :param goes: asked at the last moment whether the connection goes; :obj:`None` if it
            goes in any case.
        :param under_way: whether a request or a response is.
        :param let_go: has the connection end here; gives what was read and not consumed.
        :param stay: has it go on here.
        """
        self.routed = goes is None
        self._loop = loop
        self._transport = transport
        self._handoff = handoff
        self._take = take
        self._goes = goes
        self._under_way = under_way
        self._let_go = let_go
        self._stay = stay
        self._settling = False  # settle() will be called
        self._over = False

    def cancel(self) -> None:
        """
        Do nothing any more.
        """
        self._over = True

    def settle_soon(self) -> None:
        """
        Leave in the next turn of the loop: what was written leaves before that.
        """
        if not self._settling:
            self._settling = True
            self._loop.call_soon(self.settle)

    def settle(self) -> None:
        """
        Leave, if nothing is under way and the answer is sent; else try again later.
        """
        self._settling = False
        if self._over or self._under_way():
            return
        transport = self._transport
        if self.routed and getattr(transport, "can_divert", False):
            self._divert()
        elif is_quiet(transport):
            self._go_or_stay()
        elif isinstance(transport, LoopTransport) and not transport.is_closing():
            # The client has not taken its answer yet.
            self._settling = True
            self._loop.call_later(UNSENT_SECONDS, self.settle)

    def _go_or_stay(self) -> None:
        self._over = True
        if self._goes is not None and not self._goes(self._handoff):
            self._stay()
            return
        sock, rest = self._transport.detach()
        self._take(sock, self._let_go() + rest)

    def _divert(self) -> None:
        """
        Leave, but for the TLS.  What is written and not sent yet stays with that.
        """
        self._over = True
        name = self._transport.get_extra_info("sockname")
        say_secure(self._handoff, name[:2] if isinstance(name, tuple) else None)
        sock = self._transport.divert()
        self._take(sock, self._let_go())
