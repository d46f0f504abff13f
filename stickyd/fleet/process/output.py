"""
What a worker writes to its standard output and error, in the primary's log.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twisted.logger import Logger, LogLevel

if TYPE_CHECKING:
    from constantly import NamedConstant

#: The longest line that is kept whole, in bytes.
LONGEST_LINE = 16 * 1024

#: A worker marks the level of its own log lines as sd-daemon(3) says: ``<4>`` is a warning.
LEVELS = {
    "2": LogLevel.critical,
    "3": LogLevel.error,
    "4": LogLevel.warn,
    "6": LogLevel.info,
    "7": LogLevel.debug,
}
_MARKED = re.compile(r"<([2-7])>(.*)", re.DOTALL)


class OutputRelay:
    """
    Logs the lines of one worker.

    :ivar name: stands before each line.
    :ivar last_words: the last line that was printed, or logged as an error.

    A line without a mark comes from a ``print`` of the application, or from a dying
    interpreter, and is told as it stands.
    """

    def __init__(self) -> None:
        # No class attribute: as a descriptor, a Logger takes the class's own namespace.
        self._log = Logger(namespace="stickyd.worker")
        self.name = "worker"
        self.last_words = ""
        self._parts = {1: b"", 2: b""}

    def received(self, stream: int, data: bytes) -> None:
        """
        Take what came on descriptor ``stream`` (1 or 2) of the worker.
        """
        *lines, rest = (self._parts[stream] + data).split(b"\n")
        for line in lines:
            self._tell(self._tell_excess(line))
        self._parts[stream] = self._tell_excess(rest)

    def _tell_excess(self, line: bytes) -> bytes:
        """
        Log the front of a line that is too long.

        :return: what is left of it.
        """
        while len(line) > LONGEST_LINE:
            self._tell(line[:LONGEST_LINE])
            line = line[LONGEST_LINE:]
        return line

    def flush(self) -> None:
        """
        Log what has no newline behind it: the worker has ended.
        """
        for stream, rest in self._parts.items():
            if rest:
                self._parts[stream] = b""
                self._tell(rest)

    def _tell(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        marked = _MARKED.match(text)
        level: NamedConstant = LogLevel.info
        if marked is not None:
            level = LEVELS.get(marked[1], LogLevel.info)
            text = marked[2]
        if text.strip() and (marked is None or level >= LogLevel.error):
            self.last_words = text.strip()
        self._log.emit(level, "[{name}] {text}", name=self.name, text=text)
