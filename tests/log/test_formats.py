"""
How events look: :mod:`stickyd.log.formats`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.logger import LogLevel
from twisted.python.failure import Failure

from stickyd.log.formats import WORKERS, as_json, as_text, clock_time, full_time, no_time


def event(text: str, level: object = LogLevel.info, **more: object) -> dict[str, Any]:
    """
    An event as our loggers make it.
    """
    return {
        "log_format": "{text}",
        "log_namespace": "stickyd.service.StickyService",
        "log_time": 1_800_000_000.25,
        "log_level": level,
        "text": text,
        **more,
    }


def of_worker(text: str, trace: str = "", **more: object) -> dict[str, Any]:
    """
    An event as the primary logs what a worker says.
    """
    return event(
        text, log_format="[{name}] {text}", log_namespace=WORKERS, name="worker 42 slot 2",
        source="worker 2", pid=42, trace=trace, **more,
    )  # fmt: skip


def failed() -> Failure:
    """
    An error with its traceback.
    """
    try:
        raise ValueError("broken")
    except ValueError:
        return Failure()


def test_text_has_time_source_and_message() -> None:
    """
    A short source in a column; nothing says "info", the other levels are said.
    """
    write = as_text(lambda seconds: f"{seconds:.0f}")
    assert write(event("Worker 42 online")) == "1800000000 stickyd   Worker 42 online\n"
    assert write(event("full", LogLevel.warn)) == "1800000000 stickyd   warning: full\n"
    assert write(of_worker("hello")) == "1800000000 worker 2  hello\n"
    refused = event("stickyd: cannot listen", LogLevel.error, log_namespace="stderr")
    assert write(refused) == "1800000000 stickyd   error: cannot listen\n"
    other = event("what a library writes", LogLevel.error, log_namespace="stderr")
    assert write(other) == "1800000000 stderr    error: what a library writes\n"
    old = {"log_format": "{log_text}", "log_text": "old", "log_system": "-", "log_time": 1.0}
    assert write(old) == "1 python    old\n"


def test_traceback_is_not_prefixed() -> None:
    """
    The lines of a traceback follow as they are, a little to the right: so no line that
    anybody sends can be taken for an event.
    """
    write = as_text(no_time)
    first, *lines = write(event("It failed", LogLevel.error, log_failure=failed())).splitlines()
    assert first == "stickyd   error: It failed"
    assert lines[0] == "    Traceback (most recent call last):"
    assert lines[-1] == "    builtins.ValueError: broken"
    forged = write(event("GET /a\n12:00:00 stickyd   Worker 1 online"))
    assert forged == "stickyd   GET /a\n    12:00:00 stickyd   Worker 1 online\n"
    assert write(of_worker("It failed", "Traceback\nEnd")) == (
        "worker 2  It failed\n    Traceback\n    End\n"
    )


def test_controls_are_shown() -> None:
    """
    Nothing that a client or an application says moves the cursor of a terminal.
    """
    write = as_text(no_time, colours=True)
    text = write(of_worker("a\x1b[2Jb\x07\x9b\r\tc"))
    assert "a\\x1b[2Jb\\x07\\x9b\\x0d\tc\n" in text


def test_colours_and_priorities() -> None:
    """
    Warnings and errors stand out in a terminal; the journal gets the priority of each line.
    """
    coloured = as_text(no_time, colours=True)(event("full", LogLevel.warn))
    assert re.fullmatch(r"\x1b\[2mstickyd   \x1b\[0m\x1b\[33mwarning: full\x1b\[0m\n", coloured)
    journal = as_text(no_time, priorities=True)
    assert journal(event("one\ntwo", LogLevel.error)) == ("<3>stickyd   error: one\n<3>    two\n")
    assert journal(event("fine")) == "<6>stickyd   fine\n"


def test_times() -> None:
    """
    The time of the day where somebody looks on, date and zone in a file.
    """
    assert re.fullmatch(r"\d\d:\d\d:\d\d", clock_time(0.0))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", full_time(0.0))
    assert no_time(0.0) == ""


def test_json_is_an_object_a_line() -> None:
    """
    With the name of the event, its own fields that are plain, and the traceback apart.
    """
    written = as_json(event("Worker 42 online", event="worker.online", pid=42, worker=object()))
    assert written.count("\n") == 1
    assert json.loads(written) == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "info",
        "source": "stickyd",
        "event": "worker.online",
        "message": "Worker 42 online",
        "pid": 42,
    }
    written = as_json(event("It\nfailed", LogLevel.warn, log_failure=failed(), source="no"))
    plain = json.loads(written)
    assert written.count("\n") == 1
    assert (plain["message"], plain["level"]) == ("It\nfailed", "warning")
    assert plain["traceback"].endswith("ValueError: broken")
    printed = json.loads(as_json(of_worker("", "Traceback\nKeyError: 3", event="worker.output")))
    assert (printed["message"], printed["source"]) == ("KeyError: 3", "worker 2")
    assert printed["traceback"] == "Traceback\nKeyError: 3"
