"""
What waits to be sent to one process on the bus.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

#: What may wait at most, for a process that does not read, or does so slowly.
QUEUE_MESSAGES = 65_536
QUEUE_BYTES = 16 * 1024 * 1024

#: How much is offered to the kernel at once: about what its buffer takes.
_BLOCK_BYTES = 128 * 1024


class SendQueue:
    """
    Frames that wait for a stream socket, bounded in number and in bytes.

    :ivar count: how many wait, those included of which a part may be sent.
    :ivar size_bytes: how much that is.
    """

    __slots__ = ("_block", "_block_count", "_frames", "_socket", "count", "size_bytes")

    def __init__(self, sock: socket.socket, unsent: bytes = b"") -> None:
        """
        :param sock: non-blocking; it is used, and stays the caller's.
        :param unsent: what goes first.
        """
        self._socket = sock
        self._frames: deque[bytes] = deque()
        # What was joined to be sent, and is not yet.
        self._block: bytes | memoryview = unsent
        self._block_count = 1 if unsent else 0
        self.count = self._block_count
        self.size_bytes = len(unsent)

    def append(self, frame: bytes) -> bool:
        """
        Have a frame sent after all others, unless there is no room for it.

        :return: whether there is.
        """
        size_bytes = self.size_bytes + len(frame)
        if self.count >= QUEUE_MESSAGES or (size_bytes > QUEUE_BYTES and self.count):
            return False
        self._frames.append(frame)
        self.count += 1
        self.size_bytes = size_bytes
        return True

    def keep_rest(self, frame: bytes, sent_bytes: int) -> None:
        """
        Have the rest of a frame sent of which the kernel has taken a part, when nothing waited.
        """
        self._block, self._block_count = memoryview(frame)[sent_bytes:], 1
        self.count, self.size_bytes = 1, len(frame) - sent_bytes

    def push(self, frame: bytes) -> None:
        """
        Have a frame sent after all others, room or not.
        """
        self._frames.append(frame)
        self.count += 1
        self.size_bytes += len(frame)

    def send(self) -> bool:
        """
        Offer what waits to the kernel.

        :return: whether it has taken all.
        :raises OSError: if the other end is gone.
        """
        while self.count:
            if not self._block:
                self._join()
            try:
                sent = self._socket.send(self._block)
            except BlockingIOError:
                return False
            self.size_bytes -= sent
            if sent < len(self._block):
                self._block = memoryview(self._block)[sent:]
                return False
            self._block = b""
            self.count -= self._block_count
            self._block_count = 0
        return True

    def _join(self) -> None:
        frames = self._frames
        if self.size_bytes <= _BLOCK_BYTES:
            self._block_count = len(frames)
            self._block = frames[0] if len(frames) == 1 else b"".join(frames)
            frames.clear()
            return
        part, size_bytes = [], 0
        while frames and size_bytes < _BLOCK_BYTES:
            frame = frames.popleft()
            part.append(frame)
            size_bytes += len(frame)
        self._block, self._block_count = b"".join(part), len(part)

    def clear(self) -> None:
        """
        Forget what waits.
        """
        self._frames.clear()
        self._block, self._block_count = b"", 0
        self.count = self.size_bytes = 0

    @property
    def unsent(self) -> bytes:
        """
        All that waits; the first frame may be cut.
        """
        return b"".join((bytes(self._block), *self._frames))
