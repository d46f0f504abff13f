"""
``wsgi.file_wrapper``: an application's file as its response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Less is not read at a time, whatever the application asks for: each piece is a hop.
LEAST_BYTES = 65536


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

    def close(self) -> None:
        """
        Close the file.
        """
        close = getattr(self.file, "close", None)
        if close is not None:
            close()
