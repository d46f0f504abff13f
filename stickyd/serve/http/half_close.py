"""
Whether a client that has shut its sending side is still there.

It may have shut that side alone, and wait for its answer (RFC 9112, 9.6), or it may have
closed all and left: to TCP both are the same FIN.  But a client that has left answers data
with a reset.  So it gets what any response would begin with, and the connection is looked at
for a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    class Call(Protocol):
        """
        A call that will be made: asyncio's or Twisted's.
        """

        def cancel(self) -> object: ...


#: After which times the connection is looked at, for clients on this machine, in this building,
#: on another continent; from then on the last one is repeated.
LOOK_SECONDS = (0.02, 0.2, 2.0, 10.0)


class HalfClosed:
    """
    Looks at one connection.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], Call],
        transport: Any,
        left: Callable[[], object],
    ) -> None:
        """
        :param call_later: the loop's.
        :param transport: the connection's, which got some data just now.
        :param left: called once if the client has left.
        """
        self._call_later = call_later
        self._left = left
        self._is_broken: Callable[[], bool] = getattr(transport, "is_broken", bool)
        self._delays = iter(LOOK_SECONDS)
        self._call: Call | None = call_later(next(self._delays), self._look)

    def _look(self) -> None:
        self._call = None
        if self._is_broken():
            self._left()
        else:
            delay = next(self._delays, LOOK_SECONDS[-1])
            self._call = self._call_later(delay, self._look)

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._call is not None:
            self._call.cancel()
            self._call = None
