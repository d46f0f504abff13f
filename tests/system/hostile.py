"""
Clients that send what nobody should, many at a time.
"""

from __future__ import annotations

import select
import selectors
import socket
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: How many of them are connected at a time.
AT_A_TIME = 500


class Attempt:
    """
    One connection, and what has come of it.

    :ivar begun: when it was connected.
    """

    def __init__(
        self, target: tuple[str, int], source: str, pieces: Sequence[bytes], hangs_up: bool
    ) -> None:
        """
        :param source: the address that it speaks from.
        :param pieces: what is sent, one after the other.
        :param hangs_up: whether the client says then that there will be no more.
        """
        self.sent = b"".join(pieces)
        self.begun = time.monotonic()
        self.socket = socket.create_connection(target, 60, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pieces = deque(pieces)
        self._hangs_up = hangs_up

    def step(self) -> bool:
        """
        Send the next piece.

        :return: whether there are more.
        """
        with suppress(OSError):  # it may have been refused already, which reading tells
            if self._pieces:
                self.socket.sendall(self._pieces.popleft())
            if not self._pieces and self._hangs_up:
                self.socket.shutdown(socket.SHUT_WR)
        return bool(self._pieces)

    def outcome(self) -> str:
        """
        Read: ``answer 400`` or the like, TLS's ``alert`` or ``handshake``, ``closed``, ``reset``.
        """
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return "reset"
        if not data:
            return "closed"
        if data.startswith(b"\x15\x03"):  # RFC 8446, section 6
            return "alert"
        if data.startswith(b"\x16\x03"):
            return "handshake"
        version, _, rest = data.partition(b" ")
        assert version in (b"HTTP/1.1", b"HTTP/1.0"), (self.sent, data)
        return f"answer {int(rest[:3])}"


def attempt_all(
    target: tuple[str, int], inputs: Iterable[tuple[str, list[bytes], bool]], longest: float
) -> Counter[str]:
    """
    Send every input on a connection of its own, and wait for an answer or the end of each.

    :param inputs: from which address, the pieces, and whether the client hangs up behind them.
    :param longest: seconds that any of them may take.
    :return: how often there was which outcome.
    """
    outcomes: Counter[str] = Counter()
    left = iter(inputs)
    more = True
    with selectors.DefaultSelector() as selector:
        while more or selector.get_map():
            while more and len(selector.get_map()) < AT_A_TIME:
                given = next(left, None)
                if given is None:
                    more = False
                    break
                attempt = Attempt(target, *given)
                while attempt.step():
                    # The pieces shall not arrive as one.
                    select.select([attempt.socket], [], [], 0)
                selector.register(attempt.socket, selectors.EVENT_READ, attempt)
            for key, _ in selector.select(1):
                found: Attempt = key.data
                outcomes[found.outcome()] += 1
                selector.unregister(found.socket)
                found.socket.close()
            now = time.monotonic()
            for key in selector.get_map().values():
                waiting: Attempt = key.data
                assert now - waiting.begun < longest, waiting.sent
    return outcomes
