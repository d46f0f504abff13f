"""
Tests of the chunked decoder, by itself and against llhttp.
"""

from __future__ import annotations

import pytest
from httptools import HttpParserError, HttpRequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from stickyd.serve.http.chunked import ChunkedDecoder
from stickyd.serve.http.head import RequestError

_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class _Judge:
    """
    What llhttp makes of a chunked body.
    """

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.finished = False
        HttpRequestParser(self).feed_data(_HEAD + data)

    def on_body(self, body: bytes) -> None:
        """
        Collect.
        """
        self.body += body

    def on_message_complete(self) -> None:
        """
        Remember.
        """
        self.finished = True


def _decode(pieces: list[bytes]) -> tuple[bytes, ChunkedDecoder, bytes]:
    decoder = ChunkedDecoder()
    body, rest = b"", b""
    for piece in pieces:
        if decoder.finished:
            rest += piece
        else:
            body += b"".join(decoder.feed(piece))
            rest += decoder.rest
    return body, decoder, rest


@st.composite
def _coded(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """
    Draw a body and a coding of it.
    """
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    extension = st.sampled_from([b"", b";a", b";a=b", b';a="b;\xff\\""', b";a;b"])
    size = st.sampled_from([b"%x", b"%X", b"0%x", b"000000%x"])
    coded = b"".join(
        draw(size) % len(chunk) + draw(extension) + b"\r\n" + chunk + b"\r\n" for chunk in chunks
    )
    trailers = draw(st.sampled_from([b"", b"X: y\r\n", b"X: y\r\nZ:\r\n"]))
    return b"".join(chunks), coded + b"0" + draw(extension) + b"\r\n" + trailers + b"\r\n"


@settings(deadline=None)
@given(_coded(), st.lists(st.integers(0, 300), max_size=8).map(sorted), st.binary(max_size=9))
def test_round_trip(case: tuple[bytes, bytes], cuts: list[int], rest: bytes) -> None:
    """
    A coded body comes out whole, however it is cut, and what follows it is left over.
    """
    body, coded = case
    data = coded + rest
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    decoded, decoder, left = _decode(pieces)
    assert (decoded, decoder.finished, left) == (body, True, rest)


@settings(deadline=None, max_examples=300)
@given(_coded(), st.integers(0, 200), st.sampled_from([b"", b"\r", b"\n", b";", b" ", b"0", b"g"]))
def test_not_more_lenient_than_llhttp(
    case: tuple[bytes, bytes], place: int, mischief: bytes
) -> None:
    """
    Whatever we accept llhttp accepts too, and it finds the same body in it.
    """
    _, coded = case
    place %= len(coded)
    coded = coded[:place] + mischief + coded[place + 1 :]
    decoder = ChunkedDecoder()
    try:
        body = b"".join(decoder.feed(coded))
    except RequestError:
        return
    if decoder.finished:
        coded = coded[: len(coded) - len(decoder.rest)]
    judge = _Judge(coded)
    assert (judge.body, judge.finished) == (body, decoder.finished)


@pytest.mark.parametrize(
    "coded",
    [
        b"5\r\nab",
        b"5;a\r",
        b"5\r\nabcde\r\n0\r\nX: y\r\n\r",
        b"5\r\nabcde\r\n0\r\n",
    ],
)
def test_unfinished(coded: bytes) -> None:
    """
    A body is not finished before its last byte.
    """
    _, decoder, _ = _decode([coded])
    assert not decoder.finished


@pytest.mark.parametrize("coded", [b"5" + b";" * 300, b"0\r\n" + b"X: y\r\n" * 2000, b"0" * 17])
def test_lines_are_bounded(coded: bytes) -> None:
    """
    Neither endless extensions, trailers nor sizes are collected.
    """
    with pytest.raises(RequestError):
        _decode([coded[n : n + 1] for n in range(len(coded))] + [b"\r\n"])


def test_judge_refuses() -> None:
    """
    The judge is one: llhttp refuses a body with a bare LF.
    """
    with pytest.raises(HttpParserError):
        _Judge(b"3\nabc\r\n0\r\n\r\n")
