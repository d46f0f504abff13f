"""
Tests of the access log.
"""

from __future__ import annotations

from io import StringIO
from typing import Any

from twisted.internet.task import Clock

from stickyd.serve.http import AccessLog
from tests.http_wire import DATE, GET, Wire


def _logging(answer: Any = None) -> tuple[Wire, StringIO]:
    wire = Wire(answer or (lambda request: b"hello"))
    file = StringIO()
    wire.site.access_log = AccessLog(file, wire.clock, lambda: DATE)
    return wire, file


def test_combined_format() -> None:
    """
    A line has address, time, request line, status, length, referrer and agent.
    """
    wire, file = _logging()
    wire.feed(
        b"GET /a?b HTTP/1.1\r\nHost: a\r\nReferer: http://r/\r\nUser-Agent: me (x)\r\n\r\n" + GET
    )
    wire.site.stopFactory()
    start = "192.168.1.1 - - [06/Nov/1994:08:49:37 +0000] "
    assert file.getvalue().splitlines() == [
        f'{start}"GET /a?b HTTP/1.1" 200 5 "http://r/" "me (x)"',
        f'{start}"GET / HTTP/1.1" 200 5 "-" "-"',
    ]


def test_clients_cannot_forge_lines() -> None:
    """
    Quotes, backslashes and bytes beyond ASCII are escaped.
    """
    wire, file = _logging()
    wire.feed(b'GET /" HTTP/1.1\r\nHost: a\r\nUser-Agent: a"b\\c\td\xff\r\n\r\n')
    wire.site.stopFactory()
    assert file.getvalue().endswith('"GET /\\" HTTP/1.1" 200 5 "-" "a\\"b\\\\c\\x09d\\xff"\n')


def test_every_way_to_finish_is_logged() -> None:
    """
    Responses that are written piece by piece are logged as well, with their length.
    """

    def answer(request: Any) -> int:
        request.write(b"abc")
        request.write(b"def")
        request.finish()
        return 1

    wire, file = _logging(answer)
    wire.feed(GET)
    wire.site.stopFactory()
    assert " 200 6 " in file.getvalue()


def test_lines_are_written_within_a_second() -> None:
    """
    Lines wait for others, but not longer than a second; and not at all when they are many.
    """
    wire, file = _logging()
    wire.feed(GET)
    assert file.getvalue() == ""
    wire.clock.advance(1)
    assert file.getvalue().count("\n") == 1
    for _ in range(1000):
        wire.feed(GET)
    assert file.getvalue().count("\n") > 500
    wire.site.stopFactory()
    assert file.getvalue().count("\n") == 1001


def test_closing_releases_the_timer() -> None:
    """
    Closing writes what waits and leaves no delayed call.
    """
    clock = Clock()
    log = AccessLog(StringIO(), clock)
    log.close()
    wire = Wire(clock=clock)
    wire.site.access_log = log
    wire.feed(GET)
    wire.site.stopFactory()
    assert clock.getDelayedCalls() == []
