"""
Modulo placement against the Node.js runtime itself.
"""

from __future__ import annotations

import json
import subprocess
from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest
from zope.interface.verify import verifyObject

from stickyd.errors import SettingError
from stickyd.interfaces import IPlacement
from stickyd.placement.modulo import Modulo

SIZES = (1, 2, 3, 4, 7, 8, 16, 61, 64, 256, 1000)

# hashIP and getWorkerIndex as the Node.js program has them; addresses come in on stdin.
NODE_PROGRAM = """
const crypto = require('crypto');
function hashIP(ip) {
  return crypto.createHash('md5').update(ip).digest('hex');
}
function getWorkerIndex(ip, workerCount) {
  const hash = parseInt(hashIP(ip).slice(0, 8), 16);
  return hash % workerCount;
}
const { addresses, sizes } = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(addresses.map((ip) => sizes.map((n) => getWorkerIndex(ip, n)))));
"""


def sample_addresses() -> list[str]:
    """
    IPv4, mapped and IPv6 addresses as a listening socket reports them, known and random.
    """
    random = Random(1)
    addresses = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "::", "0.0.0.0", "255.255.255.255"]
    for _ in range(120):
        ipv4 = str(IPv4Address(random.getrandbits(32)))
        addresses += [ipv4, f"::ffff:{ipv4}", str(IPv6Address(random.getrandbits(128)))]
    addresses.append("")  # what the program hashes when remoteAddress is undefined
    return addresses


def test_agrees_with_node() -> None:
    """
    Node.js, running the program's own two functions, gives the same worker for each address.
    """
    addresses = sample_addresses()
    finished = subprocess.run(
        ["node", "-e", NODE_PROGRAM],
        input=json.dumps({"addresses": addresses, "sizes": SIZES}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    placements = [Modulo(slots) for slots in SIZES]
    answers = [[each.slot_of(address.encode()) for each in placements] for address in addresses]
    assert answers == json.loads(finished.stdout)


def test_golden_vectors() -> None:
    """
    Values that Node.js 20 gave once, for machines where only this file is at hand.
    """
    keys = (b"127.0.0.1", b"::1", b"::ffff:127.0.0.1", b"203.0.113.7")
    assert [Modulo(8).slot_of(key) for key in keys] == [5, 5, 7, 3]
    assert [Modulo(1000).slot_of(key) for key in keys] == [645, 381, 407, 147]


def test_refuses_no_slots() -> None:
    """
    Without a slot there is nothing to place on, and the operator is told.
    """
    with pytest.raises(SettingError, match="0 slots"):
        Modulo(0)


def test_provides_iplacement() -> None:
    """
    Modulo keeps the contract of IPlacement.
    """
    placement = Modulo(4)
    assert verifyObject(IPlacement, placement)
    assert placement.slots == 4
