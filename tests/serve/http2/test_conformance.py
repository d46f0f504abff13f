"""
What the RFCs want of a server, asked of the channel in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.http2_conformance import CASES, Talk
from tests.serve.http2.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("talk", CASES.values(), ids=list(CASES))
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_fault_12_conformance(talk: Callable[[Talk], Any], size: int) -> None:
    """
    Each case of h2spec, whole and byte by byte.
    """
    wire = Wire()
    talk(Talk(lambda data: _say(wire, data, size), lambda: _hear(wire)))


def _say(wire: Wire, data: bytes, size: int) -> None:
    if len(data) > 20_000:
        size = max(size, 1000)
    for start in range(0, len(data), size):
        wire.feed(data[start : start + size])


def _hear(wire: Wire) -> bytes:
    for _ in range(20):
        wire.clock.advance(0)
    output: bytes = wire.transport.value()
    wire.transport.clear()
    assert output or wire.transport.disconnecting, "the server waits"
    return output
