"""
Field blocks, and the memory of them.
"""

from __future__ import annotations

import pytest

from stickyd.serve.http.head import (
    HTTP_1_0,
    HTTP_1_1,
    REMEMBERED_BLOCKS,
    REMEMBERED_BYTES,
    FieldBlocks,
    RequestError,
)
from stickyd.serve.http.limits import HTTPLimits


def block(number: int, padding: int = 0) -> bytes:
    """
    A valid block that differs by its number.
    """
    return b"Host: a.example\r\nX-Number: %d%b\r\n\r\n" % (number, b"x" * padding)


def test_same_bytes_are_parsed_once() -> None:
    """
    Another connection that sends the same fields gets the same block.
    """
    blocks = FieldBlocks(HTTPLimits())
    assert blocks.parse(block(1), HTTP_1_1) is blocks.parse(block(1), HTTP_1_1)
    assert blocks.parse(block(2), HTTP_1_1).pairs[1] == (b"x-number", b"2")


def test_version_makes_another_block() -> None:
    """
    The same fields mean another thing in another version.
    """
    blocks = FieldBlocks(HTTPLimits())
    blocks.parse(b"X: 1\r\n\r\n", HTTP_1_0)
    with pytest.raises(RequestError, match="no Host"):
        blocks.parse(b"X: 1\r\n\r\n", HTTP_1_1)


def test_refused_blocks_are_refused_again() -> None:
    """
    What is not allowed is not remembered as if it were.
    """
    blocks = FieldBlocks(HTTPLimits())
    for _ in range(2):
        with pytest.raises(RequestError):
            blocks.parse(b"Host: a\r\nHost: b\r\n\r\n", HTTP_1_1)


def test_memory_is_bounded() -> None:
    """
    Neither many different blocks nor large ones pile up.
    """
    blocks = FieldBlocks(HTTPLimits())
    for number in range(3 * REMEMBERED_BLOCKS):
        blocks.parse(block(number), HTTP_1_1)
        assert len(blocks._blocks) <= REMEMBERED_BLOCKS
    blocks._blocks.clear()
    blocks.parse(block(1, REMEMBERED_BYTES), HTTP_1_1)
    assert not blocks._blocks


@pytest.mark.parametrize(
    ("fields", "offers"),
    [
        (b"Connection: upgrade\r\nUpgrade: h2c\r\n", (b"h2c",)),
        (b"UPGRADE: WebSocket\r\nconnection: keep-alive , UPGRADE\r\n", (b"websocket",)),
        (b"Connection: a\r\nConnection: Upgrade\r\nUpgrade: a, b\r\nUpgrade: c\r\n",
         (b"a", b"b", b"c")),
        (b"Upgrade: websocket\r\n", ()),
        (b"Connection: upgraded\r\nUpgrade: websocket\r\n", ()),
        (b"Connection: upgrade\r\n", ()),
    ],
)  # fmt: skip
def test_offers_of_an_upgrade(fields: bytes, offers: tuple[bytes, ...]) -> None:
    """
    An offer is what ``Upgrade`` names, if ``Connection`` says so, in HTTP/1.1 (RFC 9110, 7.8).
    """
    blocks = FieldBlocks(HTTPLimits())
    raw = b"Host: a\r\n" + fields + b"\r\n"
    assert blocks.parse(raw, HTTP_1_1).offers == offers
    assert blocks.parse(raw, HTTP_1_0).offers == ()


def test_offers_and_lengths_are_read_apart() -> None:
    """
    Whoever offers an upgrade may send a body too, and it has the length that the head says.
    """
    blocks = FieldBlocks(HTTPLimits())
    raw = b"Host: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 12\r\n\r\n"
    assert blocks.parse(raw, HTTP_1_1).length == 12


def test_forwarded_requests_are_told_once() -> None:
    """
    As soon as one says for whom it was forwarded, by either field, however it is spelt.
    """
    for name in (b"X-Forwarded-For", b"x-forwarded-for", b"Forwarded"):
        blocks, told = FieldBlocks(HTTPLimits()), list[int]()
        blocks.call_for_forwarded(lambda told=told: told.append(1))  # type: ignore[misc]
        blocks.parse(b"Host: a\r\nX-Note: unforwarded\r\n\r\n", HTTP_1_1)
        assert told == []
        for number in range(3):
            blocks.parse(b"Host: a\r\n%b: 192.0.2.%d\r\n\r\n" % (name, number), HTTP_1_1)
        assert told == [1]
