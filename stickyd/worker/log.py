"""
The worker's log: lines on standard error, which the primary puts into its own.
"""

from __future__ import annotations

import logging
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)
from typing_extensions import override
from zope.interface import implementer

from stickyd.log.events import EVENTS
from stickyd.log.lines import LEVEL_NAMES, Line, write_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from constantly import NamedConstant
    from twisted.logger import LogEvent

#: The standard library's levels, by the names of ``--log-level``.
_STANDARD = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


def marked(event: LogEvent) -> str:
    """
    Write an event as :mod:`stickyd.log.lines` says.
    """
    failure = event.get("log_failure")
    name = event.get("event")
    return write_line(
        Line(
            event.get("log_level") or LogLevel.info,
            formatEvent(event),
            "" if failure is None else failure.getTraceback(),
            name if isinstance(name, str) and name in EVENTS else "",
        )
    )


#: Handlers that leave nothing where somebody looks for what goes on: Django's only one for
#: errors, unless it debugs, sends mail.
_ELSEWHERE = frozenset({"NullHandler", "SMTPHandler", "AdminEmailHandler"})


class _MarkingHandler(logging.StreamHandler):  # type: ignore[type-arg]  # subscriptable from 3.11 on
    """
    The same marks for the standard library's logging, which asyncio libraries use.

    It is the root logger's, and takes what no handler of the application has written.
    """

    @override
    def handle(self, record: logging.LogRecord) -> bool:
        return not _is_written(record) and bool(super().handle(record))

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        # What a formatter adds is the traceback, below the message.
        said = f"{record.name}: {record.message}"
        trace = text[len(said) :].lstrip("\n") if text.startswith(said) else ""
        return write_line(Line(_level(record.levelno), said if trace else text, trace)).rstrip("\n")


def _level(number: int) -> NamedConstant:
    """
    The level of twisted.logger's that a number of the standard library's is at least.
    """
    if number >= logging.CRITICAL:
        return LogLevel.critical
    if number >= logging.ERROR:
        return LogLevel.error
    if number > logging.INFO:
        return LogLevel.warn
    return LogLevel.info if number == logging.INFO else LogLevel.debug


def write_lines_at_once() -> None:
    """
    Pipes are buffered by the block; a print of the application is wanted when it is made.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _is_written(record: logging.LogRecord) -> bool:
    """
    Whether another handler than the root logger's takes a record.
    """
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger.parent is not None:
        for handler in logger.handlers:
            if type(handler).__name__ in _ELSEWHERE or record.levelno < handler.level:
                continue
            if handler.filter(record):
                return True
        logger = logger.parent
    return False


class _OurLevel(int):
    """
    The root logger's level as long as the application has not configured logging.

    It is told by its type from the same number that the application may set.
    """


def begin_logging() -> Callable[[str], None]:
    """
    Send twisted.logger to standard error, and what of the standard library's logging the
    application does not handle: from information upwards.

    :return: sets the level, by the name of ``--log-level``.
    """
    write_lines_at_once()
    # The present one, as the application may put something else there, even our own log.
    error_stream = sys.stderr

    @implementer(ILogObserver)
    def write(event: LogEvent) -> None:
        error_stream.write(marked(event))

    least = LogLevelFilterPredicate(LogLevel.info)
    globalLogBeginner.beginLoggingTo(
        [FilteringLogObserver(write, [least])], redirectStandardIO=False
    )
    handler = _MarkingHandler(error_stream)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    _begin_standard_logging(handler)

    def set_level(name: str) -> None:
        least.setLogLevelForNamespace("", LEVEL_NAMES[name])
        root = logging.getLogger()
        if isinstance(root.level, _OurLevel):
            root.setLevel(_OurLevel(_STANDARD[name]))

    return set_level


def _begin_standard_logging(handler: logging.Handler) -> None:
    """
    Have a handler take what nobody else does, until the application configures logging.

    It does so by putting a handler on the root logger, by ``logging.basicConfig`` for
    instance, which would do nothing where there is one.
    """
    root = logging.getLogger()
    root.setLevel(_OurLevel(logging.INFO))
    root.addHandler(handler)
    basic_config = logging.basicConfig

    def step_back() -> None:
        root.removeHandler(handler)
        if isinstance(root.level, _OurLevel):
            root.setLevel(logging.WARNING)  # as in a fresh interpreter

    def add_handler(added: logging.Handler) -> None:
        step_back()
        logging.Logger.addHandler(root, added)

    @wraps(basic_config)
    def configure(**options: Any) -> None:
        step_back()
        basic_config(**options)

    root.addHandler = add_handler  # type: ignore[assignment, method-assign]
    logging.basicConfig = configure
