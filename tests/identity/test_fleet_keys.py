"""
Keys that all workers share.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

import stickyd
from stickyd.affinity.token import Signer
from stickyd.errors import ApplicationError
from stickyd.identity.fleet_keys import FleetKeys

ONE, TWO = b"first secret of 16 bytes", b"other secret of 16 bytes"


def fleet_keys(*secrets: bytes) -> FleetKeys:
    """
    Those of a worker that was told these secrets.
    """
    keys = FleetKeys()
    keys.begin(secrets)
    return keys


@given(st.binary(min_size=16), st.binary(min_size=1, max_size=255))
def test_is_hkdf(secret: bytes, label: bytes) -> None:
    """
    It is HKDF with SHA-256, as anybody else computes it.
    """
    expected = HKDF(SHA256(), 32, b"stickyd.secret", label).derive(secret)
    assert fleet_keys(secret).keys_of(label) == [expected]


def test_same_in_each_worker_and_another_for_each_label() -> None:
    """
    Text is its UTF-8.
    """
    assert fleet_keys(ONE).keys_of("café") == fleet_keys(ONE).keys_of("café".encode())
    assert fleet_keys(ONE).keys_of("a") != fleet_keys(ONE).keys_of("b")
    assert fleet_keys(ONE).keys_of("a") != fleet_keys(TWO).keys_of("a")


def test_rotation() -> None:
    """
    A worker goes on with its own, and knows that of the others before they use it.
    """
    old, fresh = fleet_keys(ONE), fleet_keys(TWO, ONE)
    old.know_also([TWO, ONE])
    assert old.keys_of("a") == list(reversed(fresh.keys_of("a")))


def test_outside_of_a_worker() -> None:
    """
    It is the same as long as the process lives, and nobody else's.
    """
    assert len(stickyd.secret("a")) == 32
    assert stickyd.secret("a") == stickyd.secret("a") == stickyd.secrets("a")[0]
    assert FleetKeys().keys_of("a") != FleetKeys().keys_of("a")


@pytest.mark.parametrize("label", ["", b"", "é" * 128])
def test_label_out_of_bounds(label: str | bytes) -> None:
    """
    The error says what a label is.
    """
    with pytest.raises(ApplicationError, match="name what the key is for, in 1 to 255 bytes"):
        stickyd.secret(label)


def test_no_key_of_a_token() -> None:
    """
    What an application is given cannot sign a cookie: not even under the label of its key.
    """
    signer = Signer([ONE])
    key = fleet_keys(ONE).keys_of("stickyd.cookie")[0]
    assert signer.slot_of(Signer([key]).mint(1).encode()) is None
