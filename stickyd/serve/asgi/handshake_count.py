"""
Counting the handshakes of WebSockets, whichever of uvicorn's protocols answers them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.figures.request_counts import RequestCounts


class CountedHandshake:
    """
    A transport until the handshake is answered: the first thing that is written is the answer,
    whose status counts.
    """

    def __init__(
        self, transport: Any, counts: RequestCounts, answered: Callable[[Any], object]
    ) -> None:
        """
        Count the beginning.

        :param transport: the connection's.
        :param answered: given it once the handshake is answered, so that it takes our place.
        """
        self._transport = transport
        self._counts = counts
        self._answered = answered
        self._begun_ns = counts.begin()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """
        Write the answer, or what follows it.
        """
        if self._begun_ns:
            begun_ns, self._begun_ns = self._begun_ns, 0
            status = bytes(data[9:12])  # behind "HTTP/1.1 "
            if status.isdigit():
                self._counts.end(int(status), begun_ns)
            else:
                self._counts.drop(0)
            self._answered(self._transport)
        self._transport.write(data)

    def close(self) -> None:
        """
        Close the connection.
        """
        self._give_up()
        self._transport.close()

    def abort(self) -> None:
        """
        Cut it off.
        """
        self._give_up()
        self._transport.abort()

    def _give_up(self) -> None:
        if self._begun_ns:
            self._begun_ns = 0
            self._counts.drop(0)
