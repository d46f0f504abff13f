"""
The body of a request, on its way from the loop to the application's thread.

*Theory of operation.*  Most bodies are whole before their application is called, and are then
a ``BytesIO``.  While one is incomplete and nobody reads it, it lies in memory up to
:data:`MOST_MEMORY_BYTES` (:data:`MEMORY_BYTES`, if many others do) and beyond that in a file
without a name, so that a slow client costs neither memory nor a thread.  Once the application
runs, it reads what is there and waits for the rest; then the loop holds the client back when
too much is unread, instead of a file.
"""

from __future__ import annotations

import errno
import io
import os
import resource
import tempfile
import threading
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO

from typing_extensions import Buffer, override

if TYPE_CHECKING:
    from collections.abc import Callable

#: What any incomplete body may take of the memory; about as much may be in the kernel.
MEMORY_BYTES = 65536

#: What one may take as long as all take no more than :data:`SHARED_MEMORY_BYTES`.
MOST_MEMORY_BYTES = 1 << 20
SHARED_MEMORY_BYTES = 64 << 20


class BodyLost(ConnectionResetError):
    """
    The client left before it had sent all of the body.
    """


class Spills:
    """
    How many bodies may lie in files at a time: each takes a descriptor, and those are for
    connections.  And how much memory the others take.

    :ivar count: how many lie in files.
    :ivar memory_bytes: what those take that nobody reads yet; only the loop changes it.
    """

    def __init__(self, most: int | None = None) -> None:
        """
        :param most: by default a quarter of the descriptors that this process may have.
        """
        self.most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4 if most is None else most
        self.count = 0
        self.memory_bytes = 0
        self._counting = threading.Lock()

    def take(self) -> bool:
        """
        Count one more, if there may be one.
        """
        with self._counting:
            if self.count >= self.most:
                return False
            self.count += 1
            return True

    def free(self) -> None:
        """
        Count one less.
        """
        with self._counting:
            self.count -= 1


class Body:
    """
    One body.

    :ivar size: how many bytes have come.
    :ivar read_at: when somebody last got some of it while it was coming, by the monotonic
        clock; :data:`math.inf` if somebody waits for more just now.
    """

    def __init__(
        self, hold: Callable[[], object], want: Callable[[], object], spills: Spills
    ) -> None:
        """
        :param hold: called in the loop when the client shall send no more for now.
        :param want: called in the application's thread when it may go on.
        """
        self._hold = hold
        self._want = want
        self._spills = spills
        self._pieces: list[bytes] = []
        self._changed: threading.Condition | None = None  # once it is read while it comes
        self._file: BinaryIO | None = None
        self._unread = 0  # bytes in the pieces
        self._position = 0  # in the file, of the reader
        self._held = False
        self._awaited = False  # the client waits for somebody to read it
        self._whole = False
        self._lost = False
        self.size = 0
        self.read_at = 0.0

    # In the loop.

    def await_reader(self) -> None:
        """
        Say once that the client may go on when somebody waits for the first bytes.
        """
        self._awaited = True

    def feed(self, data: bytes) -> None:
        """
        Add what has come.

        :raises OSError: if there is no room on the disk.
        """
        self.size += len(data)
        changed = self._changed
        if changed is None:
            if self._file is not None:
                self._file.write(data)
                return
            self._pieces.append(data)
            self._unread += len(data)
            self._spills.memory_bytes += len(data)
            return
        with changed:
            if self._file is not None:
                os.pwrite(self._file.fileno(), data, self.size - len(data))
            else:
                self._pieces.append(data)
                self._unread += len(data)
                if self._unread > MEMORY_BYTES and not self._held:
                    self._held = True
                    self._hold()
            changed.notify()

    @property
    def large(self) -> bool:
        """
        Whether it takes more memory than it should as long as nobody reads it.
        """
        if self._file is not None or self._changed is not None:
            return False
        shared = self._spills.memory_bytes <= SHARED_MEMORY_BYTES
        return self._unread > (MOST_MEMORY_BYTES if shared else MEMORY_BYTES)

    def spill(self) -> None:
        """
        Move what there is to a file, and what comes before anybody reads too.

        :raises OSError: if none can be made, or too many are there.
        """
        if not self._spills.take():
            raise OSError(errno.EMFILE, f"{self._spills.most} bodies lie in files already")
        try:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the body
        except OSError:
            self._spills.free()
            raise
        file.write(b"".join(self._pieces))
        self._file = file
        self._forget_pieces()

    def _forget_pieces(self) -> None:
        self._pieces.clear()
        self._spills.memory_bytes -= self._unread
        self._unread = 0

    def finish(self) -> None:
        """
        Learn that the body is whole.
        """
        self._whole = True
        self._notify()

    def lose(self) -> None:
        """
        Learn that the rest never comes, as the client has left or was answered.  What has come
        can still be read.
        """
        self._lost = True
        self._notify()

    def _notify(self) -> None:
        if self._changed is not None:
            with self._changed:
                self._changed.notify()

    def open(self) -> BinaryIO:
        """
        Give what the application reads from.  To be called once.
        """
        if self._whole:
            if self._file is None:
                content = b"".join(self._pieces)
                self._forget_pieces()
                return io.BytesIO(content)
            self._file.seek(0)
            return self._file
        if self._file is not None:
            self._file.flush()
        self._spills.memory_bytes -= self._unread
        self._changed = threading.Condition()
        return io.BufferedReader(BodyReader(self), MEMORY_BYTES)

    # In the application's thread.

    def read_into(self, buffer: memoryview) -> int:
        """
        Take some bytes, waiting for them if there are none.

        :return: how many; 0 at the end.
        :raises BodyLost: if the client has left before the end.
        """
        changed = self._changed
        assert changed is not None
        with changed:
            while True:
                # In this order: what comes last comes before the end.
                whole = self._whole
                count = self._take(buffer)
                if count or whole:
                    break
                if self._lost:
                    self.read_at = monotonic()
                    raise BodyLost(
                        "the client has left, or was answered, before it had sent the whole body"
                    )
                if self._awaited:
                    self._awaited = False
                    self._want()
                self.read_at = inf
                changed.wait()
            self.read_at = monotonic()
            resume = self._held and self._unread <= MEMORY_BYTES // 2
            if resume:
                self._held = False
        if resume:
            self._want()
        return count

    def _take(self, buffer: memoryview) -> int:
        if self._file is not None:
            data = os.pread(self._file.fileno(), len(buffer), self._position)
            buffer[: len(data)] = data
            self._position += len(data)
            return len(data)
        count = 0
        pieces = self._pieces
        while pieces and count < len(buffer):
            piece = pieces[0][: len(buffer) - count]
            buffer[count : count + len(piece)] = piece
            count += len(piece)
            if len(piece) == len(pieces[0]):
                del pieces[0]
            else:
                pieces[0] = pieces[0][len(piece) :]
        self._unread -= count
        return count

    def close(self) -> None:
        """
        Free the file, if there is one; in whichever thread is the last to need it: the
        application's, or the loop for a body that was never opened.
        """
        if self._changed is None:
            self._close()
        else:
            with self._changed:
                self._close()

    def _close(self) -> None:
        if self._unread and self._changed is None:
            self._forget_pieces()
        file, self._file = self._file, None
        if file is not None:
            file.close()
            self._spills.free()


class BodyReader(io.RawIOBase):
    """
    The raw stream of a body that is still coming.
    """

    def __init__(self, body: Body) -> None:
        super().__init__()
        self._body = body

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer) -> int:
        with memoryview(buffer) as view:
            return self._body.read_into(view.cast("B"))
