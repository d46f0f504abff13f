"""
What an application knows of its worker, and what it shares with the others.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stickyd.identity.fleet_keys import FleetKeys
from tests.system.client import Client
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
