"""
``wsgi.errors``: what an application writes there is in the log.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Iterable

#: A line that is longer than this is told before its end.
LINE_CHARACTERS = 65536


class ErrorStream:
    """
    A text stream: what is written up to the end of a line is an entry of the log.

    ``print()`` writes a line in several pieces, so those of each thread are put together.

    :ivar begun: the lines that have not ended yet, by the thread that writes them.
    """

    _log = Logger(namespace="wsgi")

    def __init__(self) -> None:
        self.begun: dict[int, str] = {}

    def write(self, text: str) -> int:
        """
        Log a text, once its line ends.

        :raises TypeError: if it is none.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() takes str, not {type(text).__name__}")
        line = self.begun.pop(get_ident(), "") + text
        if line.endswith("\n") or len(line) > LINE_CHARACTERS:
            self._tell(line)
        elif line:
            self.begun[get_ident()] = line
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """
        Log several, as one entry.
        """
        self.write("".join(lines))

    def flush(self) -> None:
        """
        Log what this thread has begun.
        """
        self._tell(self.begun.pop(get_ident(), ""))

    def _tell(self, text: str) -> None:
        line = text.rstrip("\n")
        if line:
            self._log.error("{line}", event="wsgi.errors", line=line)
