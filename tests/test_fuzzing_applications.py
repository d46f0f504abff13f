"""
The short form of the fuzzing of applications that misbehave, and what it has found.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzzing.applications import SEEDS, check

#: What the fuzzer has found, behind a byte that it does not look at.
FOUND = {
    "a ping before the handshake is answered": "2e019f99",
    "a close before the handshake is answered": "2e0179a0d0d1eb88cc409bafa69a5e9f88604b50",
    "a frame without a mask before the handshake is answered": "2e01d47c6d9c",
    "a client that leaves before the handshake is answered": "2e0158b791df6af1d8",
    "a head that cannot be sent": "2e00d98a20ef86ee96509641c90754824900eb1af346046bff0e8cb4698a15"
    "07424adf65f0e7a1878313fb8a49392b51bda085b66bfab0",
    "a response to HTTP/1.0 that goes nowhere": "2e00889c5da763f1ea2dc847a0f4d345a4691a2c72a0c10f"
    "b3f50194",
    "a HEAD that is cut off": "2e008f9f2a99a4617ffe7f27715b5e91dea1abbf4a210876",
    "an upload behind a call that waits": "2e00c0f5eab7a7a760a606e4610cb63334d93f908eaefefd00ed3b"
    "adfeaa2f1247ab49b2a2e8492199b8",
    "a stop and then a failure before a handshake is answered": "2e829b52b224fbdc02af82",
    "a body that is read after the response": "008000ff0766ffff8d9a0200030003001f",
    "a message of integers": "2e193fd45e61002a83c0175f0e0b2137c72ec6fa18ce2b6116875f1a2d29f59830c9",
    "a generator that waits": "2e02c38ab70ea268c269d52808b1358a0e276cc35c4647375c9764002ccd57df3f"
    "265b3aac1f5700068024391575427f1da02f5ef49c7d451106",
}


@pytest.mark.parametrize("data", [b"." + seed for seed in SEEDS])
def test_seeds(data: bytes) -> None:
    """
    What the fuzzer begins with is as it should be.
    """
    check(data)


@pytest.mark.parametrize("found", FOUND.values(), ids=FOUND)
def test_found(found: str) -> None:
    """
    What it has found is mended.
    """
    check(bytes.fromhex(found))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_applications_can_do_what_they_like(data: bytes) -> None:
    """
    Whatever an application does.
    """
    check(data)
