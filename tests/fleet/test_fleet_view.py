"""
What a primary says of its slots when it is asked, and that asking changes nothing.
"""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stickyd.affinity.keys import QueryKey
from stickyd.affinity.resolve import learned_id
from stickyd.affinity.token import Signer
from stickyd.explain import Client, Occupant, explain_by
from stickyd.fleet.fleet_view import FleetView
from stickyd.fleet.slot_changes import SlotChanges
from stickyd.fleet.slot_table import SlotTable
from stickyd.fleet.worker_limits import WorkerLimits
from stickyd.placement.failover import Failover
from stickyd.placement.least import LeastLoaded
from stickyd.settings import Settings
from stickyd.testing import FakePlacement, FakeSpawner
from tests.fleet.fleets import make_fleet
from tests.fleet.test_fleet import Rig, start


def view_of(rig: Rig) -> FleetView:
    """
    What the fleet of a rig knows.
    """
    return FleetView(rig.fleet, "rendezvous")


def test_life_of_a_slot_in_words() -> None:
    """
    Starting, serving, draining, restarting after a death, failed: each with the worker that
    has the slot.
    """
    rig = Rig(2)
    known = view_of(rig)
    assert known.occupant_of(0) == Occupant(1001, "starting")
    rig.clock.advance(1.0)
    rig.ready(0, 1)
    assert known.occupant_of(0) == Occupant(1001, "serving")
    rig.fleet.slots[0].drained = True
    assert known.occupant_of(0) == Occupant(1001, "draining")
    rig.fleet.slots[0].drained = False
    rig.worker(0).died("died of signal 9 (SIGKILL)")
    assert known.occupant_of(0) == Occupant(0, "restarting")
    rig.clock.advance(1.0)
    assert known.occupant_of(0) == Occupant(1003, "restarting")
    rig.fail(0)
    assert known.occupant_of(0) == Occupant(0, "failed")


def test_reload_in_words() -> None:
    """
    A worker serves until it hands over; from then on clients wait for the next one.
    """
    rig = Rig(1)
    known = view_of(rig)
    rig.ready(0)
    SlotChanges(rig.fleet, WorkerLimits(3, 300.0, 2)).reload()
    assert known.occupant_of(0) == Occupant(1001, "serving")
    rig.ready(0)
    assert known.occupant_of(0) == Occupant(1002, "restarting")
    rig.spawner.workers[0].releases[0][1].callback(None)
    assert known.occupant_of(0) == Occupant(1002, "serving")


def test_worker_that_gives_away_serves_on() -> None:
    """
    While others are given what is theirs by a new placement, the worker is no other.
    """
    rig = Rig(1)
    known = view_of(rig)
    rig.ready(0)
    rig.fleet.slots[0].hold(rig.worker(0))
    assert known.occupant_of(0) == Occupant(1001, "serving")


def test_stop_in_words() -> None:
    """
    A worker that is being stopped is said to be.
    """
    rig = Rig(1)
    rig.ready(0)
    rig.stop()
    assert view_of(rig).occupant_of(0) == Occupant(1001, "stopping")


def test_other_slot_is_told_with_the_reason() -> None:
    """
    Whose slot is not available is told which one, how it is there, and where it is instead.
    """
    rig = Rig(3)
    rig.ready(0, 1)
    known = view_of(rig)
    assert known.home_of(b"\2") == (2, "rendezvous over 3 slots gives 2")
    rig.fail(2)
    slot, how = known.home_of(b"\2")
    assert slot == Failover(FakePlacement, 3, [0, 1]).slot_of(b"\2")
    assert how == (
        "rendezvous over 3 slots gives 2, which is not available (no worker, failed), so"
        f" {slot} has its clients"
    )


def test_nobody_stands() -> None:
    """
    Where no slot is left, it is told that the client is refused, whatever is known of it.
    """
    rig = Rig(1)
    rig.fail(0)
    settings = Settings.read({"affinity": "header:X-User"})
    for headers in ([("X-User", "alice")], []):
        found = explain_by(view_of(rig), settings, Client("192.0.2.1", headers), None)
        assert found.slot is None
        assert found.told
        assert str(found).startswith("no slot\n")
        assert "every slot has failed or is drained, so the client is refused" in str(found)


def test_asking_of_newcomers_takes_no_turn() -> None:
    """
    However often it is asked, the next newcomer goes where it was told it would.
    """
    rig = Rig(3)
    rig.ready(0, 1, 2)
    known = view_of(rig)
    for expected in (0, 1, 2):
        for _ in range(2):
            assert known.newcomer_home()[0] == expected
        assert rig.fleet.table.newcomers.least_loaded() == expected


def test_asking_remembers_nobody() -> None:
    """
    With the least placement an unknown client stays unknown, and a known one is not used:
    it is forgotten when its time is over.
    """
    clock, spawner = Clock(), FakeSpawner()
    table = SlotTable(clock)
    stick = LeastLoaded(2, table.loads, clock.seconds, table.is_available, 10, 60.0)
    fleet = make_fleet(clock, table=table, place=stick.place)
    start(fleet, spawner, 2, 1)
    for worker in spawner.workers:
        worker.ready()
    known = FleetView(fleet, "rendezvous")
    told = known.home_of(b"key")
    assert told == (0, "not remembered, so the least loaded slot, 0 at the moment")
    assert len(stick) == 0
    assert stick.slot_of(b"key") == 0
    assert known.home_of(b"key") == (0, "remembered on slot 0")
    clock.advance(59.0)
    assert known.home_of(b"key") == (0, "remembered on slot 0")
    clock.advance(2.0)
    assert known.home_of(b"key")[1].startswith("not remembered")


def test_asking_of_a_learned_id_does_not_keep_it() -> None:
    """
    A claim is told, and forgotten at its time although somebody has asked.
    """
    rig = Rig(2)
    rig.ready(0, 1)
    rig.fleet.claim(1, [b"id"])
    owner_of = view_of(rig).owner_of
    rig.clock.advance(86399.0)
    assert owner_of(b"id") == 1
    rig.clock.advance(2.0)
    assert owner_of(b"id") is None


def test_move_in_between() -> None:
    """
    During a resize the answer is by the placement that still counts.
    """
    rig = Rig(2)
    rig.ready(0, 1)
    known = view_of(rig)
    resized: Deferred[str] = SlotChanges(rig.fleet, WorkerLimits(3, 300.0, 2)).resize(3)
    rig.ready(2)
    assert known.slots == 2
    assert known.home_of(b"\2")[0] == 0
    for worker in rig.spawner.workers:
        for _, released in worker.releases:
            released.callback(None)
    assert known.slots == 3
    assert known.home_of(b"\2")[0] == 2
    assert resized.called


def test_who_keeps_a_client_is_told() -> None:
    """
    By a cookie, a learned id and a key: which worker, of which generation, relieved how long ago,
    and how long it stays at most; of other clients, who serves newcomers.
    """
    rig = Rig(1)
    rig.ready(0)
    old = rig.worker(0)
    old.knows_clients = True
    limits = rig.fleet.table.members[0].workers.limits
    limits.by_client, limits.drain_seconds = True, 1800.0
    changes = SlotChanges(rig.fleet, limits)
    rig.fleet.keep_clients(changes.retire)
    changes.reload()
    rig.ready(0)
    rig.fleet.learn((0, 1), [b"alice"], [learned_id(QueryKey("sid"), b"s1")], False)
    old.kept[-1][1].callback(None)
    settings = Settings.read({"affinity": "cookie:stickyd,learn:query:sid,header:X-User"})
    signer = Signer([b"x" * 16])
    explain = partial(explain_by, view_of(rig), settings)
    cookie = ("Cookie", "stickyd=" + signer.mint(0, generation=1))
    clients = {
        "cookie:stickyd": Client("192.0.2.1", [cookie]),
        "learn:query:sid": Client("192.0.2.1", [], "/?sid=s1"),
        "header:X-User": Client("192.0.2.1", [("X-User", "alice")]),
    }
    stays = f"known to worker {old.pid} of generation 1, relieved"
    for seconds, line in (
        (30.0, f"{stays} 30 s ago, stays at most 30 minutes"),
        (690.0, f"{stays} 12 minutes ago, stays at most 18 minutes"),
    ):
        rig.clock.advance(seconds)
        for entry, client in clients.items():
            found = explain(client, signer)
            assert f"{entry}: {line}" in str(found).replace("\n      ", " ")
            assert found.worker == Occupant(old.pid, "keeping its clients")
    for stranger in (
        Client("192.0.2.1", [("X-User", "bob")]),
        Client("192.0.2.1", [("Cookie", "stickyd=" + signer.mint(0, generation=2))]),
        Client("192.0.2.1", [("Cookie", "stickyd=" + Signer([b"y" * 16]).mint(0, generation=1))]),
    ):
        assert explain(stranger, signer).worker == Occupant(rig.worker(0).pid, "serving")
