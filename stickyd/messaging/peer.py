"""
The primary's end of one worker's bus.
"""

from __future__ import annotations

import base64
import errno
from typing import TYPE_CHECKING, Any

from stickyd.errors import FrameError
from stickyd.messaging.frame import FrameBuffer, Kind, encode_number
from stickyd.messaging.queue import SendQueue

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from stickyd.interfaces import IReadiness
    from stickyd.messaging.frame import Frame

#: How many channels a worker may subscribe to.
MOST_CHANNELS = 65_536

_READ_BYTES = 65_536

#: What a socket says whose other end is gone.
_GONE = (errno.EPIPE, errno.ECONNRESET)

#: More than a socket's buffer holds: what an ended worker has left is read to its end.
_LAST_READS = 64


class BusPeer:
    """
    A worker on the bus, as the primary knows it.

    :ivar channels: those that it has subscribed to.
    :ivar queue: what it has not taken yet.
    :ivar lost: how many messages it has missed since its start, as its queue was full.
    """

    __slots__ = (
        "_act",
        "_frames",
        "_gone",
        "_name",
        "_open",
        "_readiness",
        "_send",
        "_socket",
        "_synced",
        "_writing",
        "channels",
        "lost",
        "queue",
    )

    def __init__(
        self,
        readiness: IReadiness,
        sock: socket.socket,
        name: Callable[[], str],
        act: Callable[[BusPeer, list[Frame]], None],
        gone: Callable[[BusPeer, str], None],
        state: dict[str, Any] | None = None,
    ) -> None:
        """
        :param sock: our end, non-blocking; closed with the peer.
        :param name: gives what the worker is called in the log.
        :param act: called with what the worker has said; raises :exc:`FrameError` if that makes
            no sense.
        :param gone: called once, with what it did wrong if it did, when it can neither say nor
            be told anything any more.
        :param state: what :meth:`dump_state` gave, if another object was this peer before.
        """
        state = state or {}
        self._readiness = readiness
        self._socket = sock
        self._send = sock.send
        self._name = name
        self._act = act
        self._gone = gone
        self._frames = FrameBuffer(base64.b64decode(state.get("unread", "")))
        self.queue = SendQueue(sock, base64.b64decode(state.get("unsent", "")))
        self.channels = {name.encode("latin-1") for name in state.get("channels", ())}
        self.lost: int = state.get("lost", 0)
        self._synced: int | None = None
        self._writing = False
        self._open = True
        readiness.add_reader(sock.fileno(), self._read)
        if self.queue.count:
            self.flush()

    def __str__(self) -> str:
        return self._name()

    def dump_state(self) -> dict[str, Any]:
        """
        The peer as JSON can carry it, its descriptor by number.  Nothing is closed.
        """
        if self._synced is not None and not self._writing:
            self.flush()
        unsent = self.queue.unsent
        return {
            "descriptor": self._socket.fileno(),
            "unread": base64.b64encode(self._frames.unread).decode(),
            "unsent": base64.b64encode(unsent).decode(),
            "channels": [channel.decode("latin-1") for channel in self.channels],
            "lost": self.lost,
        }

    @property
    def is_open(self) -> bool:
        """
        Whether it can be told anything.
        """
        return self._open

    # what it is told

    def acknowledge(self, number: int) -> None:
        """
        Have it know, at the next :meth:`flush`, that we have acted on all up to this number.
        """
        self._synced = number

    def flush(self) -> None:
        """
        Send what waits for it, unless the kernel has no room; then later.
        """
        if self._writing or not self._open:
            return
        if self._synced is not None and self.queue.append(encode_number(Kind.SYNC, self._synced)):
            self._synced = None
        self._write()

    def pass_on(self, frame: bytes) -> bool:
        """
        Send a message that comes alone.

        :return: whether there was room for it.
        """
        queue = self.queue
        if queue.count or not self._open:
            if not queue.append(frame):
                return False
            self.flush()
            return True
        try:
            sent = self._send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            return True  # it is gone, see below
        if sent < len(frame):
            queue.keep_rest(frame, sent)
            self._await_room(False)
        return True

    def _write(self) -> None:
        try:
            sent = self.queue.send()
        except OSError:
            # It is gone.  What it has said before may still be there to be read.
            self.queue.clear()
            sent = True
        self._await_room(sent)

    def _await_room(self, sent: bool) -> None:
        """
        Have the rest sent when the kernel has room, or not any more.
        """
        if sent is self._writing:
            self._writing = not sent
            if sent:
                self._readiness.remove_writer(self._socket.fileno())
            else:
                self._readiness.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        self._write()
        if self._synced is not None:
            self.flush()

    # what it says

    def _read(self) -> bool:
        """
        Read once.

        :return: whether there may be more.
        """
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except OSError as problem:
            if problem.errno in _GONE:
                # Once: it has died with messages of ours unread.  What it had said before
                # is still there to be read.
                return True
            data = b""
        if not data:
            self._end("")
            return False
        try:
            self._act(self, self._frames.feed(data))
        except FrameError as problem:
            self._end(str(problem))
        return self._open

    def end(self) -> None:
        """
        Called when its process has ended: hear what it has left, and no more.
        """
        for _ in range(_LAST_READS):
            if not (self._open and self._read()):
                break
        self._end("")

    def _end(self, problem: str) -> None:
        if not self._open:
            return
        self._open = False
        self._readiness.remove_reader(self._socket.fileno())
        if self._writing:
            self._readiness.remove_writer(self._socket.fileno())
        self._socket.close()
        self.queue.clear()
        self._gone(self, problem)
