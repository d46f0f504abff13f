"""
``wsgi.errors``: what an application writes there is in the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Iterable


class ErrorStream:
    """
    A text stream without a memory: each write is an entry of the log.
    """

    _log = Logger(namespace="wsgi")

    def write(self, text: str) -> int:
        """
        Log a text.

        :raises TypeError: if it is none.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() takes str, not {type(text).__name__}")
        line = text.rstrip("\n")
        if line:
            self._log.error("{line}", event="wsgi.errors", line=line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """
        Log several, as one entry.
        """
        self.write("".join(lines))

    def flush(self) -> None:
        """
        Nothing waits.
        """
