"""
Where the log goes, and in which form.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO

from twisted.logger import ILogObserver, LogLevel, formatEventAsClassicLogText
from zope.interface import implementer

from stickyd.log.formats import WORKERS, as_json, as_text, clock_time, full_time, no_time
from stickyd.log.lines import LEVEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.logger import LogEvent

_ORDER = tuple(LEVEL_NAMES.values())


@implementer(ILogObserver)
class LogWriter:
    """
    Writes events to a file, or to standard output.
    """

    def __init__(self, path: str, form: str, level: str, variables: Mapping[str, str]) -> None:
        """
        :param path: the file to append to; empty for standard output.
        :param form: ``text``, ``json`` or ``twisted``.
        :param level: the least that is written.
        :param variables: those of the environment.
        :raises OSError: if the file cannot be opened.
        """
        self._path = os.path.abspath(path) if path else ""
        self._file = _opened(self._path) if path else _standard_output()
        self.write_from(level)
        self._hides_details = form != "twisted"
        self._format = _format(form, self._file, variables)

    def __call__(self, event: LogEvent) -> None:
        """
        Write an event, if it is of interest.
        """
        level = event.get("log_level") or LogLevel.info
        if self._hides_details and level is LogLevel.info and _is_detail(event):
            level = LogLevel.debug
        if _ORDER.index(level) < self._least:
            return
        text = self._format(event)
        if text:
            # A full disk cannot be logged, and is no reason to stop.
            with suppress(OSError):
                self._file.write(text)
                self._file.flush()

    def write_from(self, level: str) -> None:
        """
        Write what is of this level or a higher one, from now on.

        :param level: by its name.
        """
        self._least = _ORDER.index(LEVEL_NAMES[level])

    def close(self) -> None:
        """
        Close the file; nothing may be logged any more.
        """
        if self._path:
            self._file.close()

    def reopen(self) -> None:
        """
        Open the file again, which somebody has moved away.

        :raises OSError: if that cannot be; it goes on with the former one.
        """
        if self._path:
            former, self._file = self._file, _opened(self._path)
            former.close()


def _is_detail(event: LogEvent) -> bool:
    """
    Whether Twisted itself says it: reactor classes and factories are for who debugs.
    """
    return str(event.get("log_namespace", "")).startswith(("twisted.", "log_legacy"))


def _standard_output() -> TextIO:
    if isinstance(sys.stdout, TextIOWrapper):
        # Some encodings lack characters that clients and applications use.
        sys.stdout.reconfigure(errors="backslashreplace")
    return sys.stdout


def _opened(path: str) -> TextIO:
    return open(path, "a", encoding="utf-8", errors="backslashreplace")


def _format(
    form: str, file: TextIO, variables: Mapping[str, str]
) -> Callable[[LogEvent], str | None]:
    if form == "json":
        return as_json
    if form == "twisted":
        return _as_twisted
    if file.isatty():
        plain = variables.get("NO_COLOR") or variables.get("TERM") == "dumb"
        return as_text(clock_time, colours=not plain)
    if _is_journal(file, variables):
        return as_text(no_time, priorities=True)
    return as_text(full_time)


def _is_journal(file: TextIO, variables: Mapping[str, str]) -> bool:
    """
    Whether a file is systemd's journal (systemd.exec(5), ``$JOURNAL_STREAM``).
    """
    try:
        found = os.fstat(file.fileno())
    except (OSError, ValueError):
        return False
    return variables.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _as_twisted(event: LogEvent) -> str | None:
    """
    As twistd does, with a line for each line of a worker.
    """
    if event.get("log_namespace") != WORKERS or "text" not in event:
        return formatEventAsClassicLogText(event)
    lines = f"{event['text']}{event.get('more', '')}".split("\n")
    return "".join(
        formatEventAsClassicLogText({**event, "text": line, "more": ""}) or "" for line in lines
    )
