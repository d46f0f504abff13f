"""
Whether clients should come.
"""

from __future__ import annotations

from stickyd.fleet.health import health_of
from tests.fleet.test_fleet import Rig


def test_enough_slots_make_it_ready() -> None:
    """
    Half of them, or as many as were asked for, but never more than there are.
    """
    rig = Rig(4)
    assert not health_of(rig.fleet, "", 0, False).ready
    rig.ready(0)
    health = health_of(rig.fleet, "", 0, False)
    assert not health.ready
    assert health.agent_line == "down #1 of 4 slots serve, 2 must"
    assert health_of(rig.fleet, "", 1, False).agent_line == "up ready 25%"
    rig.ready(1)
    assert health_of(rig.fleet, "", 0, False).agent_line == "up ready 50%"
    rig.ready(2, 3)
    assert health_of(rig.fleet, "", 100, False).agent_line == "up ready 100%"
    rig.fleet.slots[0].drain()
    assert not health_of(rig.fleet, "", 4, False).ready


def test_server_that_leaves_is_not_ready() -> None:
    """
    It serves on, but balancers are told to send nobody; stopped, it says why.
    """
    rig = Rig(1)
    rig.ready(0)
    health = health_of(rig.fleet, "it stops soon", 0, False)
    assert not health.ready
    assert health.agent_line == "drain #it stops soon"
    assert [check.says for check in health.checks if not check.passes] == ["it stops soon"]
    rig.fleet.stop(1.0)
    health = health_of(rig.fleet, "", 0, False)
    assert health.leaves
    assert health.checks[0].says == "it stops"


def test_store_that_is_away_matters_if_it_is_said_to() -> None:
    """
    As all servers share it, by default none of them leaves for that.
    """
    rig = Rig(1)
    rig.ready(0)
    rig.worker(0).figures.hear({"store_away": 1.0})
    assert health_of(rig.fleet, "", 0, False).ready
    health = health_of(rig.fleet, "", 0, True)
    assert not health.ready
    assert health.checks[-1].says == "the store of sessions: workers 1001 do not reach it"
    rig.worker(0).figures.hear({"store_away": 0.0})
    assert health_of(rig.fleet, "", 0, True).ready
