"""
Minting ids in a worker.
"""

from __future__ import annotations

import pytest

import stickyd
from stickyd.affinity.token import Signer
from stickyd.errors import ApplicationError
from stickyd.identity.fleet_keys import FleetKeys
from stickyd.identity.mint import Mint
from stickyd.identity.worker_info import WorkerInfo

SECRET = b"a secret of some length"


def test_id_names_the_worker() -> None:
    """
    Its slot as it is now, and its node; signed with the fleet's secret.
    """
    worker, keys = WorkerInfo(), FleetKeys()
    mint = Mint(worker, keys)
    worker.begin(3, 4, "web1")
    keys.begin([SECRET])
    signer = Signer([SECRET], node="web1")
    assert signer.slot_of_minted(mint.mint("room-").encode()) == 3
    # Others are about to sign with another one.
    keys.know_also([b"another secret, long enough"])
    worker.occupy(1)
    assert signer.slot_of_minted(mint.mint("").encode()) == 1


def test_worker_without_a_slot() -> None:
    """
    There is nothing to name yet, and the error says when there will be.
    """
    worker = WorkerInfo()
    worker.begin(-1, 4, "")
    with pytest.raises(ApplicationError, match="call it when a client wants an id"):
        Mint(worker, FleetKeys()).mint("")


def test_outside_of_a_worker() -> None:
    """
    An application can be written and tested without us.
    """
    assert stickyd.mint() != stickyd.mint()
    assert stickyd.mint("room-").startswith("room-")


@pytest.mark.parametrize("prefix", ["thirteen-long", "a b", "room/"])
def test_bad_prefix(prefix: str) -> None:
    """
    One line says what a prefix may be.
    """
    with pytest.raises(ApplicationError, match="a prefix has up to 12 of the letters") as caught:
        stickyd.mint(prefix)
    assert repr(prefix) in str(caught.value)
    assert "\n" not in str(caught.value)
