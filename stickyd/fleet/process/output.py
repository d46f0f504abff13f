"""
What a worker writes to its standard output and error, in the primary's log.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twisted.logger import Logger, LogLevel

if TYPE_CHECKING:
    from collections.abc import Callable

    from constantly import NamedConstant
    from twisted.internet.interfaces import IReactorTime

    from stickyd.fleet.process.label import WorkerLabel
    from stickyd.fleet.process.output_share import OutputShare

#: The longest line that is kept whole, in bytes.
LONGEST_LINE_BYTES = 16 * 1024

#: How many lines are logged in one turn.
LINES_AT_ONCE = 64

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

    A line without a mark comes from a ``print`` of the application, or from a dying
    interpreter, and is logged as it is.

    However much comes, no more than :data:`LINES_AT_ONCE` are logged in one turn of the
    reactor; while some are left, or the workers together have had their share of the
    primary's time, the worker's pipe is not read, and the worker waits.

    """

    def __init__(
        self,
        clock: IReactorTime,
        share: OutputShare,
        label: WorkerLabel,
        read: Callable[[int, bool], object],
    ) -> None:
        """
        :param share: the one of all workers.
        :param label: names the worker, before each line.
        :param read: told for a descriptor of the worker (1 or 2) whether it shall be read.
        """
        # No class attribute: as a descriptor, a Logger takes the class's own namespace.
        self._log = Logger(namespace="stickyd.worker")
        self._label = label
        self._clock = clock
        self._share = share
        self._read = read
        self._last_words = ""
        self._parts = {1: b"", 2: b""}
        self._paused: set[int] = set()
        self._has_ended = False

    def received(self, stream: int, data: bytes) -> None:
        """
        Take what came on descriptor ``stream`` (1 or 2) of the worker.
        """
        self._parts[stream] += data
        if stream not in self._paused:
            self._tell_some(stream)

    def _tell_some(self, stream: int) -> None:
        begun = self._share.begin()
        *lines, rest = self._parts[stream].split(b"\n", LINES_AT_ONCE)
        for line in lines:
            self._tell(self._tell_excess(line))
        if len(lines) < LINES_AT_ONCE:
            rest = self._tell_excess(rest)
            if self._has_ended and rest:
                self._tell(rest)
                rest = b""
        self._parts[stream] = rest
        pause = self._share.end(begun)
        if pause or b"\n" in rest:
            if stream not in self._paused:
                self._paused.add(stream)
                self._read(stream, False)
            self._clock.callLater(pause, self._go_on, stream)

    def _go_on(self, stream: int) -> None:
        self._paused.discard(stream)
        self._read(stream, True)
        self._tell_some(stream)

    def _tell_excess(self, line: bytes) -> bytes:
        """
        Log the front of a line that is too long.

        :return: what is left of it.
        """
        while len(line) > LONGEST_LINE_BYTES:
            self._tell(line[:LONGEST_LINE_BYTES])
            line = line[LONGEST_LINE_BYTES:]
        return line

    def flush(self) -> None:
        """
        Log the last line too, though no newline ends it: the worker has ended.  It is logged
        now, or as soon as the lines before it are.
        """
        self._has_ended = True
        for stream, rest in self._parts.items():
            if rest and stream not in self._paused:
                self._tell_some(stream)

    def dump_state(self) -> dict[str, str]:
        """
        What is not logged yet as JSON can carry it, for a primary that replaces itself.
        """
        return {str(stream): rest.decode("latin-1") for stream, rest in self._parts.items()}

    def restore_state(self, plain: dict[str, str]) -> None:
        """
        Go on with what a former self had not logged.
        """
        for stream, rest in plain.items():
            self.received(int(stream), rest.encode("latin-1"))

    @property
    def last_words(self) -> str:
        """
        The last line that was printed, or logged as an error, whether we have logged it yet
        or not.
        """
        for stream in (2, 1):
            for line in reversed(self._parts[stream].rsplit(b"\n", LINES_AT_ONCE)):
                words = _words_of(*_read_line(line[-LONGEST_LINE_BYTES:]))
                if words:
                    return words
        return self._last_words

    def _tell(self, line: bytes) -> None:
        level, text, is_marked = _read_line(line)
        self._last_words = _words_of(level, text, is_marked) or self._last_words
        self._log.emit(
            level, "[{name}] {text}", event="worker.output", name=self._label.printed, text=text
        )


def _read_line(line: bytes) -> tuple[NamedConstant, str, bool]:
    """
    Give the level of a line, its text, and whether the worker has marked it.
    """
    text = line.decode(errors="replace").rstrip("\r")
    marked = _MARKED.match(text)
    if marked is None:
        return LogLevel.info, text, False
    return LEVELS.get(marked[1], LogLevel.info), marked[2], True


def _words_of(level: NamedConstant, text: str, is_marked: bool) -> str:
    """
    Give what a line says of the end of a worker, should it be the last; empty for nothing.
    """
    return text.strip() if not is_marked or level >= LogLevel.error else ""
