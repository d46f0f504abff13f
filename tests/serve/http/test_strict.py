"""
Tests of what the channel refuses (RFC 9112), and of how.
"""

from __future__ import annotations

from time import thread_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from tests.http_wire import GET, Wire, bodies, note

_LINE = b"GET / HTTP/1.1\r\n"
_POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED = [
    # Request lines.
    (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    (400, b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET\r\nHost: a\r\n\r\n"),
    (400, b"GET /\r\nHost: a\r\n\r\n"),
    (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GE\xc2\xa9 / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    (505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    (505, b"GET / HTTP/0.9\r\n\r\n"),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n\r\n"),
    # Targets.
    (400, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    (501, b"CONNECT /a HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    # Line ends.
    (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    (400, _LINE + b"Host: a\nX: y\r\n\r\n"),
    (400, _LINE + b"Host: a\r\n\n\r\n\r\n"),
    (400, _LINE + b"Host: a\rX: y\r\n\r\n"),
    (400, _LINE + b"Host: a\r\r\n\r\n"),
    # The same before the end of the head, which may never come.
    (400, _LINE + b"Host: a\rX: y\r\n"),
    (400, _LINE + b"Host: a\nX: y\r\n"),
    (400, _LINE + b"Host: a\x00"),
    (400, b"G@T / HTTP/1.1\r\nHo"),
    # Fields.
    (400, _LINE + b"Host: a\r\nX: y\r\n z\r\n\r\n"),
    (400, _LINE + b"Host: a\r\nX: y\r\n\tz\r\n\r\n"),
    (400, _LINE + b" Host: a\r\n\r\n"),
    (400, _LINE + b"Host: a\r\nX : y\r\n\r\n"),
    (400, _LINE + b"Host: a\r\nX\t: y\r\n\r\n"),
    (400, _LINE + b"Host: a\r\n: y\r\n\r\n"),
    (400, _LINE + b"Host: a\r\nX\r\n\r\n"),
    (400, _LINE + b"Host: a\r\nX@: y\r\n\r\n"),
    (400, _LINE + b"Host: a\r\n\xc3\xa9: y\r\n\r\n"),
    (400, _LINE + b"Host: a\r\nX: a\x00b\r\n\r\n"),
    (400, _LINE + b"Host: a\r\nX: a\x01b\r\n\r\n"),
    (400, _LINE + b"Host: a\r\nX: a\x0bb\r\n\r\n"),
    (400, _LINE + b"Host: a\r\nX: a\x7fb\r\n\r\n"),
    # Host.
    (400, _LINE + b"\r\n"),
    (400, _LINE + b"Host: a\r\nHost: a\r\n\r\n"),
    (400, _LINE + b"Host: a b\r\n\r\n"),
    (400, _LINE + b"Host: a/b\r\n\r\n"),
    (400, _LINE + b"Host: u@a\r\n\r\n"),
    (400, _LINE + b"Host: a:b\r\n\r\n"),
    (400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    # Framing.
    (400, _POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
    (400, _POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    (400, _POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    (400, _POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    (400, _POST + b"Content-Length: +3\r\n\r\nabc"),
    (400, _POST + b"Content-Length: -3\r\n\r\nabc"),
    (400, _POST + b"Content-Length: 0x3\r\n\r\nabc"),
    (400, _POST + b"Content-Length: 1_0\r\n\r\nabc"),
    (400, _POST + b"Content-Length:\r\n\r\nabc"),
    (400, _POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc"),
    (413, _POST + b"Content-Length: 9999999999999999999\r\n\r\nabc"),
    (501, _POST + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
    (501, _POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    (501, _POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (501, _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (400, _POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (400, _POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    (400, _POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (400, _POST + b"Transfer-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
    (400, _POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    (400, _POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    # Chunks.
    (400, _CHUNKED + b"g\r\n"),
    (400, _CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n"),
    (400, _CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n"),
    (400, _CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n"),
    (400, _CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n"),
    (400, _CHUNKED + b"\r\nabc\r\n0\r\n\r\n"),
    (400, _CHUNKED + b"3\nabc\r\n0\r\n\r\n"),
    (400, _CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n"),
    (400, _CHUNKED + b"3\r\nabc\n0\r\n\r\n"),
    (400, _CHUNKED + b"3; a\r\nabc\r\n0\r\n\r\n"),
    (400, _CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    (400, _CHUNKED + b"3;a=\x00\r\nabc\r\n0\r\n\r\n"),
    (413, _CHUNKED + b"ffffffffffffffff\r\n" + b"a" * 2000),
    (400, _CHUNKED + b"10000000000000000\r\na"),
    (400, _CHUNKED + b"0\r\nX : y\r\n\r\n"),
    (400, _CHUNKED + b"0\r\n X: y\r\n\r\n"),
    (400, _CHUNKED + b"0\r\nX: y\n\r\n"),
    (400, _CHUNKED + b"0\r\nX: a\x00\r\n\r\n"),
    # Sizes.
    (414, b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    (414, b"GET /" + b"a" * 900),
    (431, _LINE + b"Host: a\r\n" + b"X: y\r\n" * 25 + b"\r\n"),
    (431, _LINE + b"Host: a\r\nX: " + b"y" * 700 + b"\r\n\r\n"),
    (431, _LINE + b"Host: a\r\nX: " + b"y" * 700),
    (413, _POST + b"Content-Length: 2000\r\n\r\n"),
]

ACCEPTED = [
    GET,
    b"\r\n" + GET,
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET / HTTP/1.1\r\nhOsT:\t[::1]:80\t \r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.example:\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \xff\xfe\tz\r\n\r\n",
    b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"DESCRIBE / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    _POST + b"Content-Length: 003\r\n\r\nabc",
    _POST + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    _CHUNKED + b'003;a;b=c;d="e \\" f"\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n',
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
]

_LIMITS: dict[str, Any] = {
    "head_bytes": 600,
    "head_fields": 20,
    "target_bytes": 200,
    "body_bytes": 1000,
}


def _refusal(wire: Wire) -> int:
    """
    Check that the answer is whole and the last, and give its status.
    """
    assert wire.transport.half_closed
    output = wire.output()
    head = output.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nconnection: close" in head
    [(status, body)] = bodies(output)
    assert body.startswith(b"%d " % status)
    return status


@pytest.mark.parametrize(("status", "request_bytes"), REFUSED)
@pytest.mark.parametrize("whole", [True, False])
def test_refused(status: int, request_bytes: bytes, whole: bool) -> None:
    """
    A malformed request is answered whole, with the right status, before the application
    sees it, and the connection closes; also when it comes byte by byte.
    """
    seen: list[Any] = []
    wire = Wire(note(seen), **_LIMITS)
    if whole:
        wire.feed(request_bytes)
    else:
        wire.feed_bytes(request_bytes)
    assert _refusal(wire) == status
    assert not seen
    # What the client is still sending is read and dropped.
    wire.feed(GET)
    assert wire.output() == b""
    assert not seen


@pytest.mark.parametrize("request_bytes", ACCEPTED)
@pytest.mark.parametrize("whole", [True, False])
def test_accepted(request_bytes: bytes, whole: bool) -> None:
    """
    What RFC 9112 allows, or asks to tolerate, reaches the application.
    """
    seen = []

    def answer(request: object) -> bytes:
        seen.append(request)
        return b"yes"

    wire = Wire(answer, **_LIMITS)
    if whole:
        wire.feed(request_bytes)
    else:
        wire.feed_bytes(request_bytes)
    assert [body for _, body in bodies(wire.output())] == [b"yes"]
    assert len(seen) == 1


_splits = st.lists(st.integers(0, 400), max_size=6).map(sorted)


@settings(deadline=None)
@given(st.sampled_from(REFUSED), _splits)
def test_refused_however_cut(case: tuple[int, bytes], cuts: list[int]) -> None:
    """
    The status of a refusal does not depend on how the request is cut into pieces.
    """
    status, request_bytes = case
    wire = Wire(**_LIMITS)
    for start, end in zip([0, *cuts], [*cuts, len(request_bytes)], strict=True):
        wire.feed(request_bytes[start:end])
    assert _refusal(wire) == status


@settings(deadline=None)
@given(st.lists(st.sampled_from(ACCEPTED), min_size=1, max_size=4), _splits)
def test_accepted_however_cut(requests: list[bytes], cuts: list[int]) -> None:
    """
    Pipelined requests get the same answers however they are cut into pieces.
    """
    requests = [request for request in requests if b"HTTP/1.0" not in request] or [GET]
    data = b"".join(requests)
    expected = Wire(**_LIMITS)
    for request in requests:
        expected.feed(request)
    wire = Wire(**_LIMITS)
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        wire.feed(data[start:end])
    assert wire.output() == expected.output()


def test_blanks_cost_no_more_than_other_bytes() -> None:
    """
    A refusal is found out in no time, however many blanks stand in a field that is looked at
    for its reason; with a pattern that tries all ways to divide them it took some seconds.
    """
    wire = Wire()
    begun = thread_time()
    wire.feed(_POST + b"Transfer-Encoding:" + b" " * 3000 + b"\rX\r\n\r\n")
    assert _refusal(wire) == 400
    assert thread_time() - begun < 1


def test_answers_before_a_refusal_are_kept() -> None:
    """
    Requests before a malformed one are answered, in order, ahead of its refusal.
    """
    wire = Wire()
    wire.feed(GET + GET + b"GET / HTTP/1.1\r\nX : y\r\n\r\n")
    assert [status for status, _ in bodies(wire.output())] == [200, 200, 400]


def test_framing_cannot_smuggle() -> None:
    """
    The bytes behind a request with two framings are never taken for a request.
    """
    seen: list[Any] = []
    wire = Wire(note(seen))
    wire.feed(
        _POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert seen == []
    assert wire.closing


def test_host_may_be_optional() -> None:
    """
    With ``host_required`` off, HTTP/1.1 without ``Host`` is served, and two are refused.
    """
    wire = Wire(host_required=False)
    wire.feed(_LINE + b"\r\n")
    assert wire.output().startswith(b"HTTP/1.1 200 ")
    wire.feed(_LINE + b"Host: a\r\nHost: a\r\n\r\n")
    assert _refusal(wire) == 400


def test_same_fields_are_checked_against_the_version() -> None:
    """
    Fields that were good in one version are checked again when they come in another.
    """
    wire = Wire()
    wire.feed(_CHUNKED + b"0\r\n\r\n")
    wire.output()
    wire.feed(_CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n")
    assert _refusal(wire) == 400


def test_refusal_without_half_close() -> None:
    """
    On a transport that cannot be half-closed the refusal is written and it is closed.
    """
    transport = StringTransport()
    wire = Wire(transport=transport)
    wire.feed(b"bad\r\n\r\n")
    assert transport.value().startswith(b"HTTP/1.1 400 ")
    assert transport.disconnecting
