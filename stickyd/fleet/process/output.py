"""
What a worker writes to its standard output and error, in the primary's log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger, LogLevel

from stickyd.log.formats import WORKERS
from stickyd.log.lines import LONGEST_LINE_BYTES, Line, read_line
from stickyd.log.tracebacks import Tracebacks

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.process.label import WorkerLabel
    from stickyd.fleet.process.output_share import OutputShare

#: How many lines are logged in one turn.
LINES_AT_ONCE = 64

#: What each worker of a fleet says, and is logged once.
SAID_ONCE = frozenset({"application.not-imported", "proxy.not-trusted"})

#: Seconds that the next line of a traceback may take.
TRACEBACK_SECONDS = 0.05


class OutputRelay:
    """
    Logs the lines of one worker.

    A line without a mark comes from a ``print`` of the application, or from a dying
    interpreter, and is logged as it is; a traceback in one piece.

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
        self._log = Logger(namespace=WORKERS)
        self._label = label
        self._clock = clock
        self._share = share
        self._read = read
        self._last_words = ""
        self._parts = {1: b"", 2: b""}
        self._tracebacks = {1: Tracebacks(), 2: Tracebacks()}
        self._until_told: IDelayedCall | None = None
        self._paused: set[int] = set()
        self._has_ended = False
        self._watchers: list[Callable[[str], object]] = []

    def watch(self, heard: Callable[[str], object]) -> Callable[[], None]:
        """
        Have ``heard`` called with each line, as it is logged.

        :return: ends that; it may be called twice.
        """
        self._watchers.append(heard)

        def stop() -> None:
            if heard in self._watchers:
                self._watchers.remove(heard)

        return stop

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
            self._tell(stream, self._tell_excess(stream, line))
        if len(lines) < LINES_AT_ONCE:
            rest = self._tell_excess(stream, rest)
            if self._has_ended and rest:
                self._tell(stream, rest)
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

    def _tell_excess(self, stream: int, line: bytes) -> bytes:
        """
        Log the front of a line that is too long.

        :return: what is left of it.
        """
        while len(line) > LONGEST_LINE_BYTES:
            self._tell(stream, line[:LONGEST_LINE_BYTES])
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
        self._tell_tracebacks()

    def dump_state(self) -> dict[str, str]:
        """
        What is not logged yet as JSON can carry it, for a primary that replaces itself.
        """
        self._tell_tracebacks()
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
                words = _words_of(read_line(line[-LONGEST_LINE_BYTES:]))
                if words:
                    return words
        return self._last_words

    def _tell(self, stream: int, data: bytes) -> None:
        line = read_line(data)
        for heard in list(self._watchers):
            heard(line.text)
        self._last_words = _words_of(line) or self._last_words
        if line.is_marked:
            self._log_line(line)
            return
        traceback = self._tracebacks[stream]
        for text in traceback.add(line.text):
            self._log_text(text)
        if traceback.waits and self._until_told is None:
            self._until_told = self._clock.callLater(TRACEBACK_SECONDS, self._tell_tracebacks)

    def _tell_tracebacks(self) -> None:
        if self._until_told is not None:
            if self._until_told.active():
                self._until_told.cancel()
            self._until_told = None
        for traceback in self._tracebacks.values():
            for text in traceback.take():
                self._log_text(text)

    def _log_text(self, text: str) -> None:
        is_trace = "\n" in text
        self._log_line(Line(LogLevel.info, "" if is_trace else text, text if is_trace else ""))

    def _log_line(self, line: Line) -> None:
        """
        Log it: for observers of Twisted's own all of it in one text, for ours by its parts.
        """
        if line.event in SAID_ONCE and not self._share.is_news(line.event, line.text):
            return
        more = f"\n{line.trace}" if line.text and line.trace else line.trace
        self._log.emit(
            line.level,
            "[{name}] {text}{more}",
            event=line.event or "worker.output",
            name=self._label.printed,
            source=self._label.short,
            pid=self._label.pid,
            text=line.text,
            more=more,
            trace=line.trace,
        )


def _words_of(line: Line) -> str:
    """
    Give what a line says of the end of a worker, should it be the last; empty for nothing.
    """
    if line.is_marked and line.level < LogLevel.error:
        return ""
    return str(line).strip().rpartition("\n")[2]
