"""
Fault 34: forms are read when somebody asks, within bounds, in linear time.
"""

from __future__ import annotations

import tracemalloc
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent
from twisted.web.http import parse_qs
from twisted.web.server import NOT_DONE_YET

from stickyd.serve.http.forms import (
    MULTIPART,
    URLENCODED,
    decode_field,
    read_form,
    read_multipart,
    read_urlencoded,
)
from stickyd.serve.http.head import RequestError
from stickyd.serve.http.limits import HTTPLimits
from tests.http_wire import Wire, bodies

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
BOUNDARY = b"----WebKitFormBoundary7MA4YWxkTrZu0gW"
_DASHES = b"--" + BOUNDARY
_TYPE = b"multipart/form-data; boundary=" + BOUNDARY


def part(name: bytes, content: bytes, more: bytes = b"", boundary: bytes = BOUNDARY) -> bytes:
    """
    Make one part of a form.
    """
    return b'--%b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (
        boundary,
        name,
        more,
        content,
    )


def form(*parts: bytes, boundary: bytes = BOUNDARY) -> bytes:
    """
    Make a whole form.
    """
    return b"".join(parts) + b"--%b--\r\n" % boundary


def post(body: bytes, content_type: bytes = _TYPE) -> bytes:
    """
    Make a request.
    """
    head = b"POST /?q=1&f=query HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\nContent-Length: %d"
    return head % (content_type, len(body)) + b"\r\n\r\n" + body


# The reader.


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            form(part(b"a", b"1"), part(b"a", b"2"), part(b"b", b"")),
            {b"a": [b"1", b"2"], b"b": [b""]},
        ),
        (form(), {}),
        (b"preamble\r\n" + form(part(b"a", b"1")) + b"epilogue", {b"a": [b"1"]}),
        (form(part(b"a", b"\r\n\r\n--x\r\n")), {b"a": [b"\r\n\r\n--x\r\n"]}),
        (form(part(b"a", b"x\r\n--" + BOUNDARY + b"Q")), {b"a": [b"x\r\n--" + BOUNDARY + b"Q"]}),
        (form(part(b"f", b"x", b'; filename="a; name=b"')), {b"f": [b"x"]}),
        (form(part(rb"a\"b\\", b"x")), {rb'a"b' + b"\\": [b"x"]}),
        (form(part("\u00e9".encode(), b"x")), {"\u00e9".encode(): [b"x"]}),
        (form(_DASHES + b"\r\n\r\nnameless\r\n", part(b"a", b"1")), {b"a": [b"1"]}),
        (
            form(_DASHES + b" \t\r\ncontent-disposition:form-data;NAME=a\r\n\r\n1\r\n"),
            {b"a": [b"1"]},
        ),
        (form(part(b"a", b"aGk=", b"\r\nContent-Transfer-Encoding: BASE64")), {b"a": [b"hi"]}),
        (
            form(part(b"a", b"h=69", b"\r\nContent-Transfer-Encoding: quoted-printable")),
            {b"a": [b"hi"]},
        ),
        (form(part(b"a", b"1", b";\r\n filename=x")), {b"a": [b"1"]}),
        (form(part(b"a", b""))[: -len(_DASHES) - 6] + _DASHES + b"--", {b"a": [b""]}),
    ],
)
def test_multipart(body: bytes, expected: dict[bytes, list[bytes]]) -> None:
    """
    What RFC 7578 allows is read, and content is content.
    """
    assert read_multipart(body, BOUNDARY, 10) == expected


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (MULTIPART, b"abc"),
        (MULTIPART + b"; boundary=", b"abc"),
        (MULTIPART + b"; boundary=" + b"b" * 300, form(part(b"a", b"1"))),
        (_TYPE, b""),
        (_TYPE, b"\r\n" * 1000),
        (_TYPE, form(part(b"a", b"1"))[:-6]),
        (_TYPE, b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data"),
        (_TYPE, form(part(b"a", b"1", b";" + b"x" * 9000))),
        (_TYPE, form(part(b"a", b"a", b"\r\nContent-Transfer-Encoding: base64"))),
        (URLENCODED, b"a=" + b"%zz" * 2000),
    ],
)
def test_malformed(content_type: bytes, body: bytes) -> None:
    """
    What is no form is refused with 400.
    """
    with pytest.raises(RequestError) as caught:
        read_form(BytesIO(body), content_type, HTTPLimits())
    assert caught.value.status == 400


@given(
    st.lists(
        st.tuples(
            st.text("abc\u00e9 ;=", min_size=1).map(str.encode),
            st.lists(
                st.sampled_from(
                    [b"\r\n", b"--", BOUNDARY, b"\r\n--" + BOUNDARY + b"x", b"a", b"\0"]
                )
            ).map(b"".join),
        )
    )
)
def test_multipart_comes_back(fields: list[tuple[bytes, bytes]]) -> None:
    """
    Whatever stands in the fields, it comes back: the delimiter alone divides.
    """
    fields = [
        (name, value) for name, value in fields if (b"\r\n--" + BOUNDARY) not in b"\r\n" + value
    ]
    expected: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        expected.setdefault(name, []).append(value)
    whole = form(*(part(name, value) for name, value in fields))
    assert read_multipart(whole, BOUNDARY, 1000) == expected


@given(
    st.lists(
        st.sampled_from([b"%", b"4", b"1", b"%41", b"=", b"\r", b"\n", b"+", b"z", b"&", b";"])
    )
)
def test_urlencoded_is_as_twisted_reads_it(pieces: list[bytes]) -> None:
    """
    Both ways of decoding give what twisted.web gives.
    """
    for body in (b"".join(pieces), b"a=" + b"".join(pieces) * 20):
        assert read_urlencoded(body, 10_000) == parse_qs(body, 1)


def test_many_escapes_are_decoded_alike() -> None:
    """
    A value of all bytes comes back, however many escapes it has.
    """
    value = bytes(range(256)) * 9
    assert decode_field(b"".join(b"%%%02x" % byte for byte in value)) == value


_PART = b'--a\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'


@pytest.mark.parametrize(
    ("content_type", "make"),
    [
        (_TYPE, lambda size: b"\r\n" * (size // 2)),
        (_TYPE, lambda size: (b"\r\n--" + BOUNDARY[:-1]) * (size // 40)),
        (MULTIPART + b";boundary=a", lambda size: b"\r\n--aX" * (size // 6)),
        (MULTIPART + b";boundary=a", lambda size: _PART * (size // len(_PART))),
        (MULTIPART + b";boundary=a", lambda size: b"--a\r\na:" + b"\r\n a" * (size // 4)),
        (
            MULTIPART + b";boundary=a",
            lambda size: (
                (b"--a\r\nContent-Disposition: x" + b';a="\\' * 1500 + b"\r\n\r\n\r\n")
                * (size // 8000)
            ),
        ),
        (URLENCODED, lambda size: b"a=1&" * (size // 4)),
        (URLENCODED, lambda size: b"a=" + b"%zz" * (size // 3)),
    ],
)
def test_no_form_costs_memory_beyond_itself(
    content_type: bytes, make: Callable[[int], bytes]
) -> None:
    """
    The worst that can be sent is refused before there is an object for each piece of it.
    """
    body = make(8 * MIB)
    content = BytesIO(body)
    tracemalloc.start()
    try:
        with pytest.raises(RequestError):
            read_form(content, content_type, HTTPLimits())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(body)


def test_a_large_file_costs_its_size_twice() -> None:
    """
    The body and the field of args; nothing else.
    """
    body = form(part(b"f", b"\r\n" * (8 * MIB)))
    content = BytesIO(body)
    tracemalloc.start()
    try:
        fields = read_form(content, _TYPE, HTTPLimits())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(fields[b"f"][0]) == 16 * MIB
    assert peak < 2.1 * len(body)


# Requests.


@pytest.mark.parametrize("size", [10, 200_000])
def test_nothing_is_read_that_nobody_asks_for(size: int) -> None:
    """
    A form that is no form is served like any other body, if nobody asks for args.
    """
    wire = Wire(lambda request: b"%d" % len(request.content.read()))
    wire.feed(post(b"x" * size))
    assert bodies(wire.output()) == [(200, b"%d" % size)]


@pytest.mark.parametrize("size", [10, 200_000])
def test_form_is_there_when_asked_for(size: int) -> None:
    """
    The form's fields come before the query's, and the body stays where it was read to.
    """

    def answer(request: Any) -> bytes:
        begin = request.content.read(2)
        assert request.args[b"q"] == [b"1"]
        assert request.args[b"f"] == [b"x" * size]
        assert begin + request.content.read(2) == b"----"
        return b"ok"

    wire = Wire(answer)
    wire.feed(post(form(part(b"f", b"x" * size))))
    assert bodies(wire.output()) == [(200, b"ok")]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (form(part(b"f", b"x" * 2000)), 413, "--form-bytes"),
        (form(*[part(b"a", b"")] * 9), 413, "request.content"),
        (b"no form", 400, ""),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_form_that_is_refused(body: bytes, status: int, told: str, late: bool) -> None:
    """
    The client gets the status, the log a line and no traceback, and the application an
    error at the place where it asks.
    """
    held: list[Any] = []

    def answer(request: Any) -> Any:
        if late:
            held.append(request)
            return NOT_DONE_YET
        return repr(request.args)

    wire = Wire(answer, form_bytes=1500, form_fields=8)
    with capturedLogs() as logs:
        wire.feed(post(body))
        if late:
            with pytest.raises(RequestError):
                assert held[0].args
    assert bodies(wire.output())[0][0] == status
    assert wire.closing
    lines = [formatEvent(event) for event in logs]
    assert not [event for event in logs if "log_failure" in event]
    assert [line for line in lines if told in line] == lines
    assert bool(lines) == bool(told)


@pytest.mark.parametrize("size", [10, 200_000])
def test_form_of_a_client_that_has_left(size: int) -> None:
    """
    An application that asks late has its form, whether or not its client waits.
    """
    held: list[Any] = []

    def answer(request: Any) -> int:
        held.append(request)
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(post(form(part(b"f", b"x" * size))))
    wire.lose()
    assert held[0].args[b"f"] == [b"x" * size]


def test_form_after_the_response() -> None:
    """
    A small form can still be asked for; one in a file is gone, and says so.
    """
    held: list[Any] = []

    def answer(request: Any) -> bytes:
        held.append(request)
        return b""

    for size in (10, 200_000):
        wire = Wire(answer)
        wire.feed(post(form(part(b"f", b"x" * size))))
    assert held[0].args[b"f"] == [b"x" * 10]
    with pytest.raises(RuntimeError, match="before it is finished"):
        assert held[1].args
