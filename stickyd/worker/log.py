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

if TYPE_CHECKING:
    from twisted.logger import LogEvent

#: sd-daemon(3), which :mod:`stickyd.fleet.process.output` reads back.
MARKS = {
    LogLevel.critical: "<2>",
    LogLevel.error: "<3>",
    LogLevel.warn: "<4>",
    LogLevel.info: "<6>",
    LogLevel.debug: "<7>",
}


def marked(event: LogEvent) -> str:
    """
    Format an event, each of its lines marked with the level.
    """
    mark = MARKS.get(event.get("log_level", LogLevel.info), "<6>")
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}\n{failure.getTraceback()}"
    return "".join(f"{mark}{line}\n" for line in text.splitlines())


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
        level = record.levelno
        number = 2 if level >= 50 else 3 if level >= 40 else 4 if level > 20 else 6
        return "\n".join(f"<{number}>{line}" for line in super().format(record).splitlines())


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

    It is told by being this object from the same number that the application may set.
    """


def begin_logging() -> None:
    """
    Send twisted.logger to standard error, and what of the standard library's logging the
    application does not handle.
    """
    write_lines_at_once()
    # The present one, as the application may put something else there, even our own log.
    error_stream = sys.stderr

    @implementer(ILogObserver)
    def write(event: LogEvent) -> None:
        error_stream.write(marked(event))

    globalLogBeginner.beginLoggingTo(
        [FilteringLogObserver(write, [LogLevelFilterPredicate(LogLevel.info)])],
        redirectStandardIO=False,
    )
    handler = _MarkingHandler(error_stream)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    _begin_standard_logging(handler)


def _begin_standard_logging(handler: logging.Handler) -> None:
    """
    Have a handler take what nobody else does, until the application configures logging.

    It does so by putting a handler on the root logger, by ``logging.basicConfig`` for
    instance, which would do nothing where there is one.
    """
    root = logging.getLogger()
    level = _OurLevel(logging.INFO)
    root.setLevel(level)
    root.addHandler(handler)
    basic_config = logging.basicConfig

    def step_back() -> None:
        root.removeHandler(handler)
        if root.level is level:
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
