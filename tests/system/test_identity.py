"""
What an application knows of its worker, and what it shares with the others.
"""

from __future__ import annotations

import json
from itertools import cycle
from typing import TYPE_CHECKING, Any

from stickyd.affinity.minted_ids import MintedIds
from stickyd.identity.fleet_keys import FleetKeys
from stickyd.placement.rendezvous import Rendezvous
from tests.system.client import Client
from tests.system.rehoming import KINDS, ask, ask_anew, every_channel
from tests.system.test_keys import secret_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

OLD = b"an old secret of some length"
NEW = b"a new secret of some length"
APPLICATION = ("--resource", "tests.system.identities:root", "--affinity", "header:X-User")


def keys_by(*secrets: bytes) -> list[str]:
    """
    The keys that these secrets give for the application's label.
    """
    keys = FleetKeys()
    keys.begin(secrets)
    return [key.hex() for key in keys.keys_of("a label")]


def told_by_all(server: Server) -> dict[int, dict[str, Any]]:
    """
    What the application says in each slot.
    """
    told: dict[int, dict[str, Any]] = {}
    for number in range(64):
        with Client(server.target) as client:
            client.send("/", True, f"X-User: {number}")
            answer = json.loads(client.answer().body)
        told[answer["slot"]] = answer
        if len(told) == server.workers:
            break
    return told


def test_what_workers_know(start: Start, tmp_path: Path) -> None:
    """
    At import already and later, over a rotation of the secret, a resize and an upgrade.
    """
    path = secret_file(tmp_path, OLD)
    server = start(*APPLICATION, "--secret-file", path, "--node", "web1")
    told = told_by_all(server)
    assert sorted(told) == [0, 1]
    for slot, answer in told.items():
        assert answer["pid"] == server.worker(slot)
        known = {
            "slot": slot, "workers": 2, "node": "web1", "managed": True, "relieved": False,
            "keys": keys_by(OLD),
        }  # fmt: skip
        assert answer == {"pid": answer["pid"], "at_import": known, **known}
    secret_file(tmp_path, NEW, OLD)
    server.reload()
    assert {tuple(answer["keys"]) for answer in told_by_all(server).values()} == {
        tuple(keys_by(NEW, OLD))
    }
    server.resize_to(3)
    assert {answer["workers"] for answer in told_by_all(server).values()} == {3}
    server.upgrade()
    told = told_by_all(server)
    assert {answer["at_import"]["workers"] for answer in told.values()} == {3}
    assert {tuple(answer["keys"]) for answer in told.values()} == {tuple(keys_by(NEW, OLD))}


MINTED = (
    "minted:header:X-Id,minted:cookie:id,minted:query:room,minted:path:/room/([^/]+),header:X-User"
)


def minted_by_all(server: Server) -> dict[str, int]:
    """
    An id of each slot.
    """
    found: dict[int, str] = {}
    for number in range(64):
        told = ask_anew(server.target, f"X-User: {number}", path="/minted")
        found.setdefault(told["slot"], told["id"])
        if len(found) == server.workers:
            break
    return {identifier: slot for slot, identifier in found.items()}


def bearing(identifier: str) -> list[tuple[list[str], str]]:
    """
    Requests with an id: their fields and their path.
    """
    return [
        ([f"X-Id: {identifier}"], "/"),
        ([f"Cookie: a=b; id={identifier}"], "/"),
        ([], f"/?a=b&room={identifier}"),
        ([], f"/room/{identifier.replace('.', '%2E')}/talk"),
    ]


def check_minted(server: Server, minted: dict[str, int]) -> None:
    """
    Whoever brings an id is served by its slot, on new connections and on one that carries all.
    """
    with Client(server.target) as kept:
        # One after the other, so that each next request belongs elsewhere.
        asked = [bearing(identifier) for identifier in minted]
        for each in zip(*asked, strict=True):
            for (fields, path), slot in zip(each, minted.values(), strict=True):
                assert ask(kept, *fields, path=path)["slot"] == slot
        for requests, slot, which in zip(asked, minted.values(), cycle(range(4))):
            fields, path = requests[which]
            assert ask_anew(server.target, *fields, path=path)["slot"] == slot


@every_channel
def test_minted_ids(kind: str, start: Start) -> None:
    """
    An id leads to the slot that has minted it, after a reload too; what is none of ours does not
    count.
    """
    server = start(*KINDS[kind], "--affinity", MINTED, "--node", "web1", workers=3)
    minted = minted_by_all(server)
    assert sorted(minted.values()) == [0, 1, 2]
    check_minted(server, minted)
    place = Rendezvous(3)
    for identifier, slot in minted.items():
        user = next(f"{n}" for n in range(64) if place.slot_of(b"%d" % n) != slot)
        fallback = place.slot_of(user.encode())
        forged = MintedIds([b"a secret of somebody else"]).mint("room-", slot, "web1")
        for other in (identifier[:-1], identifier + "A", identifier.replace("web1", "web2"),
                      identifier.swapcase(), forged, "x" * 5000):  # fmt: skip
            told = ask_anew(server.target, f"X-Id: {other}", f"X-User: {user}")
            assert told["slot"] == fallback
    if kind != "resource":
        return
    server.reload()
    check_minted(server, minted)
    server.resize_to(2)
    # Who brings one of a slot that is gone is served where that one's sessions went.
    check_minted(server, {i: slot for i, slot in minted.items() if slot < 2})
    gone = next(identifier for identifier, slot in minted.items() if slot == 2)
    (successor,) = {
        ask_anew(server.target, *fields, path=path)["slot"] for fields, path in bearing(gone)
    }
    assert successor < 2
