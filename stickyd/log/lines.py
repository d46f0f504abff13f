r"""
The lines in which a worker tells its log: written by the worker, read by the primary.

A line begins with its level as sd-daemon(3) says: ``<4>`` is a warning.  What has more than one
line, or is a named event, follows as JSON behind a record separator (0x1e), so that it stays in
one piece: ``<3>\x1e{"text": "It failed", "trace": "Traceback…", "event": "application.failed"}``.
A line without a level is one that the application has printed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twisted.logger import LogLevel

from stickyd.log.events import EVENTS

if TYPE_CHECKING:
    from constantly import NamedConstant

#: The longest line that is kept whole, in bytes.
LONGEST_LINE_BYTES: Final = 16 * 1024

#: What is kept of a text and of a traceback, in characters: of the latter more of its end, where
#: the error stands.
_TEXT_CHARACTERS = (2000, 1000)
_TRACE_CHARACTERS = (2000, 9000)

_SEPARATOR = "\x1e"
_MARKED = re.compile(r"<([2-7])>(.*)", re.DOTALL)

#: The levels by their numbers.
LEVELS: Final = {
    "2": LogLevel.critical,
    "3": LogLevel.error,
    "4": LogLevel.warn,
    "6": LogLevel.info,
    "7": LogLevel.debug,
}

#: The levels by the names of ``--log-level``, the least first.
LEVEL_NAMES: Final = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
    "critical": LogLevel.critical,
}

_NUMBERS = {level: number for number, level in LEVELS.items()}


@dataclass(frozen=True)
class Line:
    """
    A line, or what was one event.

    :ivar text: what it says.
    :ivar trace: a traceback below that, or empty.
    :ivar event: its name, or empty.
    :ivar is_marked: whether the worker's log has written it, and not a ``print``.
    """

    level: NamedConstant
    text: str
    trace: str = ""
    event: str = ""
    is_marked: bool = True

    def __str__(self) -> str:
        return "\n".join(filter(None, (self.text, self.trace)))


def write_line(line: Line) -> str:
    """
    The line as a worker writes it, with its newline.
    """
    number = _NUMBERS.get(line.level, "6")
    text, trace = "\n".join(line.text.splitlines()), "\n".join(line.trace.splitlines())
    if not (trace or line.event or "\n" in text or text.startswith(_SEPARATOR)):
        return f"<{number}>{text}\n"
    for share in (1, 2, 4, 16):
        said = {
            "text": _shortened(text, *(part // share for part in _TEXT_CHARACTERS)),
            "trace": _shortened(trace, *(part // share for part in _TRACE_CHARACTERS)),
            "event": line.event,
        }
        plain = json.dumps({name: value for name, value in said.items() if value})
        if len(plain) < LONGEST_LINE_BYTES - 8:
            break
    return f"<{number}>{_SEPARATOR}{plain}\n"


def _shortened(text: str, front: int, back: int) -> str:
    left_out = len(text) - front - back
    if left_out <= 0:
        return text
    return f"{text[:front]}\n… {left_out} characters are left out …\n{text[-back:]}"


def read_line(data: bytes) -> Line:
    """
    Read a line, without its newline, that may be anything.
    """
    text = data.decode(errors="replace").rstrip("\r")
    marked = _MARKED.match(text)
    if marked is None:
        return Line(LogLevel.info, text, is_marked=False)
    level, text = LEVELS.get(marked[1], LogLevel.info), marked[2]
    if text.startswith(_SEPARATOR):
        return _read_event(level, text[1:]) or Line(level, text)
    return Line(level, text)


def _read_event(level: NamedConstant, plain: str) -> Line | None:
    try:
        said = json.loads(plain)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        return None
    # A half of a pair, which JSON may say, cannot be written.
    text, trace, event = (
        said.get(name, "").encode(errors="backslashreplace").decode()
        for name in ("text", "trace", "event")
    )
    return Line(level, text, trace, event if event in EVENTS else "")
