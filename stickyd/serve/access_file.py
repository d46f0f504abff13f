"""
The file of the access log, which is opened again when somebody has moved it away.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from twisted.logger import Logger

from stickyd.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable


class AccessFile:
    """
    A file that is appended to, as by every other worker; or this worker's standard output.
    """

    _log = Logger()

    def __init__(self, path: str) -> None:
        """
        :param path: as the setting; ``-`` for standard output.
        :raises SettingError: if it cannot be opened.
        """
        self._path = path
        self._write_rest: Callable[[], object] = lambda: None
        try:
            self._file = sys.stdout if path == "-" else _opened(path)
        except OSError as problem:
            raise SettingError(
                f"--access-log {path}: {problem.strerror}; name a file that the workers may write"
            ) from None

    def write(self, text: str) -> None:
        """
        Append whole lines, in ASCII.
        """
        self._file.write(text)
        # At once: lines of several workers must not be mixed.
        self._file.flush()

    def call_before_reopening(self, call: Callable[[], object]) -> None:
        """
        Have ``call`` write what belongs to the former file.
        """
        self._write_rest = call

    def reopen(self) -> None:
        """
        Open the file again; if that cannot be, the log says so, and the former one goes on.
        """
        if self._path == "-":
            return
        self._write_rest()
        try:
            former, self._file = self._file, _opened(self._path)
        except OSError as problem:
            self._log.error(
                "The access log cannot be opened again, and goes on in the former file: {problem}",
                event="log.not-reopened",
                problem=problem,
            )
        else:
            former.close()

    def close(self) -> None:
        """
        Close the file.
        """
        if self._path != "-":
            self._file.close()


def _opened(path: str) -> TextIO:
    return open(path, "a", encoding="ascii")
