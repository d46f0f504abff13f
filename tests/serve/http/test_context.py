"""
What all channels of a worker share: the memory of field blocks.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from stickyd.serve.http.context import REMEMBERED_BLOCKS, REMEMBERED_BYTES, Shared
from stickyd.serve.http.head import HTTP_1_0, HTTP_1_1, RequestError


def block(number: int, padding: int = 0) -> bytes:
    """
    A valid block that differs by its number.
    """
    return b"Host: a.example\r\nX-Number: %d%b\r\n\r\n" % (number, b"x" * padding)


def test_same_bytes_are_parsed_once() -> None:
    """
    Another connection that sends the same fields gets the same block.
    """
    shared = Shared(Clock())
    assert shared.field_block(block(1), HTTP_1_1) is shared.field_block(block(1), HTTP_1_1)
    assert shared.field_block(block(2), HTTP_1_1).pairs[1] == (b"x-number", b"2")


def test_version_makes_another_block() -> None:
    """
    The same fields mean another thing in another version.
    """
    shared = Shared(Clock())
    shared.field_block(b"X: 1\r\n\r\n", HTTP_1_0)
    with pytest.raises(RequestError, match="no Host"):
        shared.field_block(b"X: 1\r\n\r\n", HTTP_1_1)


def test_refused_blocks_are_refused_again() -> None:
    """
    What is not allowed is not remembered as if it were.
    """
    shared = Shared(Clock())
    for _ in range(2):
        with pytest.raises(RequestError):
            shared.field_block(b"Host: a\r\nHost: b\r\n\r\n", HTTP_1_1)


def test_memory_is_bounded() -> None:
    """
    Neither many different blocks nor large ones pile up.
    """
    shared = Shared(Clock())
    for number in range(3 * REMEMBERED_BLOCKS):
        shared.field_block(block(number), HTTP_1_1)
        assert len(shared._blocks) <= REMEMBERED_BLOCKS
    shared._blocks.clear()
    shared.field_block(block(1, REMEMBERED_BYTES), HTTP_1_1)
    assert not shared._blocks
