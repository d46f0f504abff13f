"""
The log of a running server, as it grows.
"""

from __future__ import annotations

import re
import threading
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds after which a test gives up waiting for what it expects: far more than it takes.
PATIENCE = 30.0


class Log:
    """
    Lines as they come; a thread reads them, and tests wait for the one they need.
    """

    def __init__(self, stream: IO[bytes], notice: Callable[[str], None]) -> None:
        """
        :param stream: read to its end, and closed.
        :param notice: called with each line, in the reading thread, before any waiter
            sees it.
        """
        self.lines: list[str] = []
        self._stream = stream
        self._notice = notice
        self._ended = False
        self._grown = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="log", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream as stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\n")
                self._notice(line)
                with self._grown:
                    self.lines.append(line)
                    self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    @property
    def text(self) -> str:
        """
        All of it so far.
        """
        return "\n".join(self.lines)

    def mark(self) -> int:
        """
        The place where the log ends now, for ``since``.
        """
        return len(self.lines)

    def found(self, pattern: str, since: int = 0) -> list[re.Match[str]]:
        """
        Every line so far that the pattern is found in.
        """
        lines = self.lines[since:]
        return [match for line in lines if (match := re.search(pattern, line)) is not None]

    def wait_for(
        self, pattern: str, since: int = 0, count: int = 1, timeout: float = PATIENCE
    ) -> re.Match[str]:
        """
        Wait until the pattern was found in ``count`` lines.

        :return: the last of them.
        :raises AssertionError: with the log, if the time is over or the log has ended.
        """
        matches: list[re.Match[str]] = []

        def enough() -> bool:
            nonlocal matches
            matches = self.found(pattern, since)
            return len(matches) >= count or self._ended

        with self._grown:
            in_time = self._grown.wait_for(enough, timeout)
        if len(matches) < count:
            why = "the log ended" if in_time else f"{timeout:g} s went by"
            raise AssertionError(
                f"{why} with {len(matches)} of {count} lines like {pattern!r}:\n{self.text}"
            )
        return matches[count - 1]

    def wait_for_end(self) -> None:
        """
        Wait until every process that could write to the log has closed it.
        """
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "somebody still holds the server's standard output"
