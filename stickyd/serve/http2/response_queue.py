"""
The body of a response that waits for room in the client's windows.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: A producer rests while so much waits, and goes on when there is as little as this.
HIGH_WATER_BYTES = 65536
LOW_WATER_BYTES = 16384


class ResponseQueue:
    """
    What one stream has still to send.

    :ivar size: how many bytes wait.
    :ivar taken: how often something was sent.
    :ivar ended: nothing more will come.
    """

    def __init__(self, drained: Callable[[], object] | None = None) -> None:
        """
        :param drained: called whenever little waits.
        """
        self._pieces: deque[bytes | memoryview] = deque()
        self.size = 0
        self.taken = 0
        self.ended = False
        self.drained = drained

    def __bool__(self) -> bool:
        """
        Whether there is something to send, be it only the end.
        """
        return self.size > 0 or self.ended

    def put(self, data: bytes) -> None:
        """
        Add to the body.
        """
        if data:
            self._pieces.append(data)
            self.size += len(data)

    def discard(self) -> None:
        """
        Send nothing of what waits: a large piece must not outlive its stream, of which
        Python's garbage collector may be long in freeing what is left.
        """
        self._pieces.clear()
        self.size = 0
        self.ended = False

    def take(self, most: int) -> bytes:
        """
        Take so many bytes, or all there are.
        """
        self.taken += 1
        pieces = self._pieces
        found: list[bytes | memoryview] = []
        while pieces and most > 0:
            piece = pieces[0]
            if len(piece) <= most:
                found.append(pieces.popleft())
                most -= len(piece)
                self.size -= len(piece)
            else:
                # A view: a large piece is not to be copied once for each of its frames.
                view = memoryview(piece)
                found.append(view[:most])
                pieces[0] = view[most:]
                self.size -= most
                most = 0
        return b"".join(found)
