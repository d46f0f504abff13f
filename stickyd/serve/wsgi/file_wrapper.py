"""
``wsgi.file_wrapper``: an application's file as its response.
"""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Less is not read at a time, whatever the application asks for: each piece is a hop.
LEAST_BYTES = 65536

#: Files of these types, and not of types made of them, give what lies on the disk.
_BUFFERED = (io.BufferedReader, io.BufferedRandom)


class FileWrapper:
    """
    Iterates over blocks of a file-like object.
    """

    def __init__(self, file: Any, block_size: int = 8192) -> None:
        """
        :param file: has a ``read()``; its ``close()``, if it has one, is called in the end.
        """
        self.file = file
        self.block_size = max(block_size, LEAST_BYTES)

    def __iter__(self) -> Iterator[bytes]:
        """
        Read it to its end.
        """
        while block := self.file.read(self.block_size):
            yield block

    def open_plain(self) -> tuple[int, int, int] | None:
        """
        Open what is left to read anew, if it is a regular file.

        :return: a descriptor, which the caller closes, where to begin, and how many bytes
            there are; or :obj:`None`, and nothing was opened.
        """
        file = _read_by(self.file)
        if file is None:
            return None
        try:
            if file.writable():
                file.flush()
            offset = file.tell()
            status = os.fstat(file.fileno())
            # The kernel makes files of /proc as they are read, and knows no size.
            if not stat.S_ISREG(status.st_mode) or not status.st_size:
                return None
            return os.dup(file.fileno()), offset, max(0, status.st_size - offset)
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """
        Close the file.
        """
        close = getattr(self.file, "close", None)
        if close is not None:
            close()


def _read_by(file: Any) -> Any:
    """
    Find the file of the system that a ``read()`` reads: its own, or that of another, as
    tempfile's and Django's wrappers have it.

    :return: :obj:`None` if something may become of what was read, as by a decompressor.
    """
    read = getattr(file, "read", None)
    owner: Any = getattr(getattr(read, "__wrapped__", read), "__self__", None)
    raw = owner.raw if type(owner) in _BUFFERED else owner
    return owner if type(raw) is io.FileIO else None
