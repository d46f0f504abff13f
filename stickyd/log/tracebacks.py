"""
Putting together the lines of a traceback that a program has printed.
"""

from __future__ import annotations

import re

#: What a traceback of Python begins with: one of an error, of a group of them, or faulthandler's.
_BEGIN = re.compile(r"(?:  \+ Exception Group )?Traceback \(most|(?:Current t|T)hread 0x\w+")

#: What joins it to another one.
_JOINT = re.compile(r"(?:The above exception was the |During handling of the above )")

#: More lines than this are no traceback of interest.
_MOST_LINES = 400


class Tracebacks:
    """
    Takes lines, and gives them back as they are to be told: a traceback as one text.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._is_named = False

    @property
    def waits(self) -> bool:
        """
        Whether a traceback has begun that may go on.
        """
        return bool(self._lines)

    def add(self, line: str) -> list[str]:
        """
        Take a line.

        :return: what is complete now.
        """
        if self._lines and self._belongs(line) and len(self._lines) < _MOST_LINES:
            self._lines.append(line)
            return []
        told = self.take()
        if _BEGIN.match(line):
            self._lines = [line]
            self._is_named = False
            return told
        return [*told, line]

    def _belongs(self, line: str) -> bool:
        if not line or line[0] == " " or _JOINT.match(line):
            return True
        if _BEGIN.match(line):
            # Behind "During handling of the above exception", and an empty line.
            self._is_named = False
            return not self._lines[-1]
        if self._is_named or not self._lines[0].lstrip(" +").startswith(("Traceback", "Exc")):
            return False
        # The error itself, which is said in one line at least.
        self._is_named = True
        return True

    def take(self) -> list[str]:
        """
        Give what has begun, complete or not.
        """
        lines, self._lines = self._lines, []
        if not lines:
            return []
        text = "\n".join(lines)
        # Empty lines at the end were the application's own.
        return [text.rstrip("\n"), *[""] * (len(text) - len(text.rstrip("\n")))]
