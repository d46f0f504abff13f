"""
How an event is written: as text for people, or as JSON for programs.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import LogLevel, formatEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from constantly import NamedConstant
    from twisted.logger import LogEvent

#: The namespace of what workers say, which the primary logs in their names.
WORKERS: Final = "stickyd.worker"

#: As wide as ``worker 12``.
_SOURCE_WIDTH = 9

#: Stands before each further line, so that none can be taken for an event of its own.
_INDENT = "    "

#: What our own lines on standard error begin with.
_OURS = "stickyd: "

#: All controls but newline and tab.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")

_WORDS = {LogLevel.warn: "warning", LogLevel.info: ""}

#: ECMA-48: dim, yellow, red, bold red.
_DIM, _OFF = "\x1b[2m", "\x1b[0m"
_COLOURS = {
    LogLevel.debug: "\x1b[2m",
    LogLevel.warn: "\x1b[33m",
    LogLevel.error: "\x1b[31m",
    LogLevel.critical: "\x1b[1;31m",
}

#: sd-daemon(3).
_PRIORITIES = {
    LogLevel.critical: "<2>",
    LogLevel.error: "<3>",
    LogLevel.warn: "<4>",
    LogLevel.debug: "<7>",
}


@dataclass(frozen=True)
class Said:
    """
    What every format says of an event.

    :ivar time: seconds of the epoch.
    :ivar source: whose it is, in a word or two: ``stickyd``, ``worker 2``.
    :ivar trace: a traceback, or empty.
    """

    time: float
    level: NamedConstant
    source: str
    text: str
    trace: str

    @classmethod
    def of(cls, event: LogEvent) -> Said:
        """
        Take it from an event, which may be one of the old log module.
        """
        namespace = str(event.get("log_namespace") or event.get("log_system") or "")
        if namespace == WORKERS and "source" in event:
            source, trace = str(event["source"]), str(event.get("trace", ""))
            text = str(event.get("text", ""))
        else:
            source, trace = namespace.partition(".")[0].strip("-") or "python", ""
            source = "twisted" if source == "log_legacy" else source
            text = formatEvent(event)
            if source == "stderr" and text.startswith(_OURS):
                # Why it does not start, which is said while twistd has the log already.
                source, text = "stickyd", text.removeprefix(_OURS)
        failure = event.get("log_failure")
        if failure is not None:
            trace = str(failure.getTraceback()).rstrip("\n")
        level = event.get("log_level") or LogLevel.info
        return cls(float(event.get("log_time") or time.time()), level, source, text, trace)


def as_text(
    stamp: Callable[[float], str], colours: bool = False, priorities: bool = False
) -> Callable[[LogEvent], str]:
    """
    Make the format for people: the time, a short source, what happened.  A traceback follows in
    lines of its own.

    :param stamp: shows a time; may show none.
    :param colours: for a terminal.
    :param priorities: mark each line as sd-daemon(3) says, for the journal.
    """

    def write(event: LogEvent) -> str:
        said = Said.of(event)
        word = _WORDS.get(said.level, said.level.name)
        text = f"{word}: {said.text}" if word else said.text
        first, *more = _visible("\n".join(filter(None, (text, said.trace)))).split("\n")
        when = stamp(said.time)
        begin = "".join(f"{part} " for part in (when, f"{said.source:<{_SOURCE_WIDTH}}") if part)
        if colours:
            colour = _COLOURS.get(said.level, "")
            begin = f"{_DIM}{begin}{_OFF}"
            first = f"{colour}{first}{_OFF}" if colour else first
        lines = [begin + first, *(_INDENT + line for line in more)]
        priority = _PRIORITIES.get(said.level, "<6>") if priorities else ""
        return "".join(f"{priority}{line}\n" for line in lines)

    return write


def _visible(text: str) -> str:
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def clock_time(seconds: float) -> str:
    """
    The time of the day, for who looks on.
    """
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def full_time(seconds: float) -> str:
    """
    Date and time with the zone (RFC 3339), for a file.
    """
    zone = time.strftime("%z", time.localtime(seconds))
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) + f"{zone[:3]}:{zone[3:]}"


def no_time(seconds: float) -> str:
    """
    Nothing: who keeps the log stamps it.
    """
    return ""


#: What an event's own fields cannot be called.
_RESERVED = frozenset(
    {"time", "level", "source", "message", "traceback", "text", "more", "trace", "system", "format"}
)


def as_json(event: LogEvent) -> str:
    """
    An event as a JSON object in one line (RFC 8259): ``time`` (RFC 3339, UTC), ``level``,
    ``source``, ``event`` if it has a name, ``message``, ``traceback`` if it has one, and its own
    fields, those that are texts or numbers.
    """
    said = Said.of(event)
    plain: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(said.time))
        + f".{int(said.time * 1000) % 1000:03d}Z",
        "level": _WORDS.get(said.level) or said.level.name,
        "source": said.source,
    }
    if "event" in event:
        plain["event"] = str(event["event"])
    plain["message"] = said.text or said.trace.rpartition("\n")[2]
    if said.trace:
        plain["traceback"] = said.trace
    for name, value in event.items():
        if name.startswith("log_") or name in plain or name in _RESERVED:
            continue
        if isinstance(value, (str, int, float, bool)):
            plain[name] = value
    return json.dumps(plain) + "\n"
