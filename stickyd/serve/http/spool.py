"""
Large bodies of requests: in files, which are counted among the worker's descriptors.
"""

from __future__ import annotations

import tempfile
from io import BufferedRandom, BytesIO
from typing import TYPE_CHECKING, BinaryIO, cast

from twisted.logger import Logger
from typing_extensions import override

from stickyd.net.temporary_folder import temporary_folder
from stickyd.serve.http.head import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import RawIOBase

#: What is kept of a body in memory, as twisted.web does.
MEMORY_BYTES = 100_000


class _SpoolFile(BufferedRandom):
    """
    A file that tells when it is closed.
    """

    def __init__(self, raw: RawIOBase, closed: Callable[[], object]) -> None:
        super().__init__(raw)
        self._tell_closed = closed

    @override
    def close(self) -> None:
        if not self.closed:
            self._tell_closed()
        super().close()


class Spool:
    """
    Where bodies of requests grow: in memory at first, then in a file without a name.

    A file is made when its bytes are here, not when they are announced; so neither a length
    that a client merely claims nor one that it does not tell costs anything.

    :ivar files: how many are open, each of which is a descriptor.
    """

    _log = Logger()

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        """
        :param memory_bytes: the most that is kept of one body in memory.
        """
        self._memory_bytes = memory_bytes
        self.files = 0

    def append(self, content: BinaryIO, data: bytes) -> BinaryIO:
        """
        Add to a body.

        :param content: the body so far, positioned at its end.
        :return: the body, which is ``content`` or has taken its place; whoever closes the
            request's content closes it.
        :raises RequestError: 503 if there is no room, or no descriptor; the log says so.
        """
        try:
            content.write(data)
            if type(content) is BytesIO and content.tell() > self._memory_bytes:
                return self._to_file(content)
        except OSError as error:
            self._log.warn(
                "A request's body is refused, as it cannot be kept in {folder}: {error}",
                event="request.body-not-kept",
                folder=temporary_folder(),
                error=error.strerror or error,
            )
            raise RequestError(503, "no room for a body") from error
        return content

    def _to_file(self, content: BytesIO) -> BinaryIO:
        raw = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed by who has the body)
        file = _SpoolFile(raw, self._closed)
        self.files += 1
        file.write(content.getbuffer())
        return cast("BinaryIO", file)

    def _closed(self) -> None:
        self.files -= 1
