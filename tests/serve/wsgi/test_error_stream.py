"""
What applications write to ``wsgi.errors``.
"""

from __future__ import annotations

import threading

import pytest
from twisted.logger import formatEvent

from stickyd.serve.wsgi.error_stream import LINE_CHARACTERS, ErrorStream
from tests.hosting import logged
from tests.serve.wsgi.answering import Environ, StartResponse, answered


def test_a_line_is_an_entry() -> None:
    """
    In however many pieces it comes; and several lines that come together are one entry.
    """
    stream = ErrorStream()
    with logged() as events:
        print("a", 2, "c", file=stream)
        print("flushed", end="", file=stream, flush=True)
        stream.writelines(["x\n", "y\n"])
        print(file=stream)
        stream.flush()
    assert [formatEvent(event) for event in events] == ["a 2 c", "flushed", "x\ny"]


def test_each_thread_has_its_own_lines() -> None:
    """
    They do not get into one another.
    """
    stream = ErrorStream()
    with logged() as events:
        stream.write("mine ")
        thread = threading.Thread(target=lambda: print("another's", file=stream))
        thread.start()
        thread.join()
        stream.write("too\n")
    assert [formatEvent(event) for event in events] == ["another's", "mine too"]
    assert not stream.begun


def test_what_never_ends_is_told_too() -> None:
    """
    A piece that is long enough.
    """
    stream = ErrorStream()
    with logged() as events:
        stream.write("x" * LINE_CHARACTERS)
        assert not events
        stream.write("x")
    assert len(formatEvent(events[0])) == LINE_CHARACTERS + 1


def test_the_end_of_a_request_ends_its_line() -> None:
    """
    An application that writes no line ends has it in the log nevertheless.
    """

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        environ["wsgi.errors"].write("no end")
        start_response("200 OK", [])
        return []

    with logged() as events:
        answered(application)
    assert [formatEvent(event) for event in events] == ["no end"]


def test_only_text_is_taken() -> None:
    """
    As of any text stream.
    """
    stream = ErrorStream()
    with pytest.raises(TypeError, match="write\\(\\) takes str, not bytes"):
        stream.write(b"x")  # type: ignore[arg-type]
