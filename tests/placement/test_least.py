"""
Placement by load: whom it remembers, for how long, and where newcomers go.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from zope.interface.verify import verifyObject

from stickyd.errors import SettingError
from stickyd.interfaces import IPlacement
from stickyd.placement.least import LeastLoaded, Staying


class World:
    """
    The outside of a placement: a clock, the loads, the slots that have failed.
    """

    def __init__(self, loads: list[int]) -> None:
        self.now = 1000.0
        self.loads = loads
        self.failed: set[int] = set()

    def placement(self, most_keys: int = 100, seconds: float = 60.0) -> LeastLoaded:
        """
        A placement in this world, on as many slots as there are loads.
        """
        return LeastLoaded(
            len(self.loads),
            lambda: self.loads,
            lambda: self.now,
            lambda slot: slot not in self.failed,
            most_keys,
            seconds,
        )


def test_a_newcomer_goes_to_the_least_loaded_slot() -> None:
    """
    The load at the time when a client comes first decides.
    """
    world = World([3, 1, 2])
    placement = world.placement()
    assert placement.slot_of(b"alice") == 1
    world.loads = [0, 5, 2]
    assert placement.slot_of(b"bob") == 0


def test_a_client_stays_whatever_the_loads_become() -> None:
    """
    A remembered client keeps its slot though others are less loaded.
    """
    world = World([0, 1])
    placement = world.placement()
    assert placement.slot_of(b"alice") == 0
    world.loads = [99, 0]
    assert placement.slot_of(b"alice") == 0


def test_equal_loads_take_turns() -> None:
    """
    With nothing to choose between slots, newcomers go round.
    """
    world = World([7, 7, 7])
    placement = world.placement()
    assert [placement.slot_of(bytes([number])) for number in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert [placement.least_loaded() for _ in range(3)] == [1, 2, 0]


def test_turns_skip_what_is_more_loaded() -> None:
    """
    Turns are taken among the least loaded only.
    """
    placement = World([0, 1, 0, 1]).placement()
    assert [placement.least_loaded() for _ in range(4)] == [0, 2, 0, 2]


def test_a_newcomer_without_a_key_leaves_no_trace() -> None:
    """
    Choosing for a client that has no key remembers nothing.
    """
    placement = World([0, 0]).placement()
    placement.least_loaded()
    assert len(placement) == 0
    assert placement.snapshot() == []


def test_a_client_is_forgotten_after_its_time() -> None:
    """
    The time runs from the last use, and at its end the client is a newcomer.
    """
    world = World([0, 1])
    placement = world.placement(seconds=60.0)
    placement.slot_of(b"alice")
    world.loads = [1, 0]
    world.now += 59.0
    assert placement.slot_of(b"alice") == 0
    world.now += 59.0
    assert placement.slot_of(b"alice") == 0
    world.now += 60.0
    assert placement.slot_of(b"alice") == 1


def test_the_longest_unused_client_makes_room() -> None:
    """
    A full table forgets the client that was away longest, not the one that came first.
    """
    world = World([0, 0])
    placement = world.placement(most_keys=2)
    placement.slot_of(b"alice")
    placement.slot_of(b"bob")
    placement.slot_of(b"alice")
    placement.slot_of(b"carol")
    assert [bytes.fromhex(key) for key, _slot, _seconds in placement.snapshot()] == [
        b"alice",
        b"carol",
    ]


def test_clients_of_a_failed_slot_move_for_good() -> None:
    """
    A failed slot gets no newcomer, its clients move, and do not move back.
    """
    world = World([0, 5, 9])
    placement = world.placement()
    assert placement.slot_of(b"alice") == 0
    world.failed = {0}
    assert placement.slot_of(b"alice") == 1
    assert placement.slot_of(b"bob") == 1
    world.failed = set()
    assert placement.slot_of(b"alice") == 1


def test_if_every_slot_has_failed_the_loads_decide() -> None:
    """
    There is always an answer; what becomes of the connection is the slot's business.
    """
    world = World([2, 1])
    world.failed = {0, 1}
    assert world.placement().slot_of(b"alice") == 1


def test_client_that_somebody_else_placed_is_remembered() -> None:
    """
    Until its time is over; to look it up is a use of it, and places nobody.
    """
    world = World([0, 0])
    placement = world.placement()
    assert placement.known(b"alice") is None
    placement.remember(b"alice", 1)
    world.now += 59
    assert placement.known(b"alice") == 1
    world.now += 59
    assert (placement.known(b"alice"), placement.slot_of(b"alice"), len(placement)) == (1, 1, 1)
    world.now += 60
    assert placement.known(b"alice") is None


def test_client_of_a_slot_that_is_not_there_is_not_known() -> None:
    """
    Be it that it has failed, or that there never was one.
    """
    world = World([0, 0])
    placement = world.placement()
    placement.remember(b"alice", 1)
    for slot in (2, -1):
        placement.remember(b"bob", slot)
    assert (placement.known(b"bob"), len(placement)) == (None, 1)
    world.failed = {1}
    assert placement.known(b"alice") is None
    world.failed = set()
    assert placement.known(b"alice") == 1


def test_the_longest_unused_claim_makes_room() -> None:
    """
    What is remembered for others is bounded like the rest.
    """
    placement = World([0, 0]).placement(most_keys=2)
    for key in (b"a", b"b"):
        placement.remember(key, 0)
    assert placement.known(b"a") == 0
    placement.remember(b"c", 1)
    assert [placement.known(key) for key in (b"a", b"b", b"c")] == [0, None, 1]


def test_fault_16_claims_without_end_push_out_their_own() -> None:
    """
    A worker that claims ids without end costs the others none of theirs; and one that has
    fewer than its share gets room from who has most.
    """
    placement = World([0, 0, 0]).placement(most_keys=9)
    for number in range(3):
        placement.remember(b"one %d" % number, 1)
    for number in range(1000):
        placement.remember(b"flood %d" % number, 0)
    assert len(placement) == 9
    assert [placement.peek(b"one %d" % number) for number in range(3)] == [1, 1, 1]
    assert placement.peek(b"flood 999") == 0
    for number in range(3):
        placement.remember(b"two %d" % number, 2)
    assert [placement.peek(b"two %d" % number) for number in range(3)] == [2, 2, 2]
    assert [placement.peek(b"one %d" % number) for number in range(3)] == [1, 1, 1]
    placement.remember(b"one 0", 0)  # one that has gone to another worker
    assert (placement.peek(b"one 0"), len(placement)) == (0, 9)


def test_resize_forgets_the_clients_of_removed_slots_only() -> None:
    """
    Clients of slots that stay are not moved by a resize in either direction.
    """
    world = World([0, 0, 0, 0])
    placement = world.placement()
    keys = [bytes([number]) for number in range(8)]
    before = {key: placement.slot_of(key) for key in keys}
    placement.resize(2)
    assert placement.slots == 2
    assert len(placement) == 4
    world.loads = [0, 0, -9, -9, -9, -9]
    placement.resize(6)
    after = {key: placement.slot_of(key) for key in keys}
    for key in keys:
        assert after[key] == before[key] if before[key] < 2 else after[key] >= 2
    world.loads = [0]
    placement.resize(1)
    assert placement.slot_of(b"new") == 0


def test_clients_of_a_slot_that_goes_move_where_their_sessions_go() -> None:
    """
    The clients of a slot that is drained move to other slots, and do not move back.
    """
    world = World([0, 5, 9])
    placement = world.placement()
    assert placement.slot_of(b"alice") == 0
    world.failed = {0}
    placement.place(3, [1, 2])
    moved = placement.slot_of(b"alice")
    assert moved == Staying(3, [1, 2], 0).slot_of(b"alice")
    assert placement.slot_of(b"bob") == 1
    world.failed = set()
    placement.place(3, [0, 1, 2])
    assert placement.slot_of(b"alice") == moved
    assert placement.slot_of(b"carol") == 0


def test_clients_of_slots_that_stay_are_not_moved_by_a_resize() -> None:
    """
    A resize moves the clients of removed slots, to where the workers send their sessions.
    """
    world = World([0, 0, 0, 0])
    placement = world.placement()
    keys = [bytes([number]) for number in range(40)]
    before = {key: placement.slot_of(key) for key in keys}
    assert placement.place(2, [0, 1]) is placement
    assert placement.slots == 2
    between = {key: placement.slot_of(key) for key in keys}
    for key in keys:
        assert between[key] == Staying(2, [0, 1], before[key]).slot_of(key)
    assert {between[key] for key in keys if before[key] >= 2} == {0, 1}
    world.loads = [0, 0, -9, -9, -9, -9]
    placement.place(6, range(6))
    assert {key: placement.slot_of(key) for key in keys} == between
    assert placement.slot_of(b"new") >= 2


def test_moving_keeps_the_order_of_use_and_the_times() -> None:
    """
    Who moves is no newcomer: its time runs on from its last use.
    """
    world = World([0, 1])
    placement = world.placement(seconds=60.0)
    placement.slot_of(b"alice")
    world.now += 20.0
    placement.slot_of(b"bob")
    placement.place(2, [1])
    assert placement.snapshot() == [(b"alice".hex(), 1, 40.0), (b"bob".hex(), 1, 60.0)]


def test_a_worker_keeps_its_clients_while_its_slot_stands() -> None:
    """
    A slot more, or another one less, moves nobody away from a worker.
    """
    assert Staying(5, [0, 2, 4], 2).slot_of(b"anybody") == 2
    gone = Staying(5, [0, 2, 4], 3)
    assert gone.slots == 5
    assert {gone.slot_of(bytes([number])) for number in range(50)} == {0, 2, 4}


def test_the_table_travels_as_json() -> None:
    """
    A restored placement remembers each client, its age and the order of use.
    """
    world = World([0, 0, 0])
    placement = world.placement(most_keys=3)
    for key in (b"\x7f\0\0\1", b"\xff" * 16, b"cookie"):
        placement.slot_of(key)
        world.now += 10.0
    written = json.dumps(placement.snapshot())

    later = World([0, 0, 0])
    later.now = 5.0
    successor = later.placement(most_keys=10)
    successor.slot_of(b"replaced")
    successor.restore(json.loads(written))
    assert json.dumps(successor.snapshot()) == written
    later.now += 30.0  # the first was used 30 of its 60 seconds before the snapshot
    assert [slot for _key, slot, _seconds in successor.snapshot()] == [1, 2]


def test_restoring_keeps_the_bounds_of_the_present_settings() -> None:
    """
    Fewer slots, less room and less time than the snapshot's leave out what does not fit.
    """
    world = World([0, 0, 0])
    placement = world.placement(seconds=600.0)
    for number in range(9):
        placement.slot_of(bytes([number]))
    world.loads = [0, 0]
    successor = world.placement(most_keys=4, seconds=30.0)
    successor.restore(placement.snapshot())
    assert successor.snapshot() == [
        ("03", 0, 30.0),
        ("04", 1, 30.0),
        ("06", 0, 30.0),
        ("07", 1, 30.0),
    ]


@pytest.mark.parametrize(
    ("slots", "most_keys", "seconds", "reason"),
    [
        (0, 1, 1.0, "0 slots"),
        (1, 0, 1.0, "1 or more clients, not 0"),
        (1, 1, 0.0, "more than 0 s, not 0.0 s"),
        (1, 1, float("nan"), "more than 0 s, not nan s"),
    ],
)
def test_refuses_numbers_that_cannot_be(
    slots: int, most_keys: int, seconds: float, reason: str
) -> None:
    """
    A number outside its range is an operator's error that names the range.
    """
    with pytest.raises(SettingError, match=reason):
        LeastLoaded(slots, lambda: [0], lambda: 0.0, lambda _slot: True, most_keys, seconds)


def test_refuses_to_shrink_to_nothing() -> None:
    """
    A resize to no slots is refused, and changes nothing.
    """
    placement = World([0, 0]).placement()
    with pytest.raises(SettingError, match="0 slots"):
        placement.resize(0)
    assert placement.slots == 2


def test_provides_iplacement() -> None:
    """
    Both ends' view of the placement keep the contract of IPlacement.
    """
    assert verifyObject(IPlacement, Staying(3, [0, 1], 0))
    assert verifyObject(IPlacement, World([0, 0, 0]).placement())


class TableMachine(RuleBasedStateMachine):
    """
    Any order of uses, failures, resizes, restores and waits, against a list as a model.
    """

    MOST_KEYS = 5
    SECONDS = 10.0

    @initialize(slots=st.integers(1, 6))
    def begin(self, slots: int) -> None:
        """
        Start with nothing remembered.
        """
        self.world = World([0] * slots)
        self.table = self.world.placement(self.MOST_KEYS, self.SECONDS)
        self.model: list[tuple[bytes, int, float]] = []  # key, slot, last use; oldest first

    def prune(self) -> None:
        """
        Apply both bounds to the model.
        """
        alive = [entry for entry in self.model if entry[2] + self.SECONDS > self.world.now]
        self.model = alive[-self.MOST_KEYS :]

    @rule(key=st.sampled_from([bytes([number]) for number in range(9)]))
    def use(self, key: bytes) -> None:
        """
        A known client stays; a newcomer goes to a least loaded slot that can have it.
        """
        self.prune()
        known = [slot for known, slot, _used in self.model if known == key]
        slot = self.table.slot_of(key)
        if known and known[0] not in self.world.failed:
            assert slot == known[0]
        else:
            every = set(range(self.table.slots))
            candidates = every - self.world.failed or every
            assert slot in candidates
            assert self.world.loads[slot] == min(self.world.loads[each] for each in candidates)
        self.model = [entry for entry in self.model if entry[0] != key]
        self.model.append((key, slot, self.world.now))

    @rule(seconds=st.sampled_from([1.0, 4.0, 10.0]))
    def wait(self, seconds: float) -> None:
        """
        Time passes.
        """
        self.world.now += seconds

    @rule(slots=st.integers(1, 6))
    def resize(self, slots: int) -> None:
        """
        The number of slots changes.
        """
        self.prune()
        self.world.loads = [*self.world.loads, *[0] * slots][:slots]
        self.world.failed = {slot for slot in self.world.failed if slot < slots}
        self.table.resize(slots)
        self.model = [entry for entry in self.model if entry[1] < slots]

    @rule(data=st.data(), slots=st.integers(1, 6))
    def place(self, data: st.DataObject, slots: int) -> None:
        """
        Slots come and go, and clients of those that go move to other slots.
        """
        self.prune()
        self.world.loads = [*self.world.loads, *[0] * slots][:slots]
        available = sorted(data.draw(st.sets(st.integers(0, slots - 1), min_size=1)))
        self.world.failed = set(range(slots)) - set(available)
        self.table.place(slots, available)
        self.model = [
            (key, Staying(slots, available, slot).slot_of(key), used)
            for key, slot, used in self.model
        ]

    @rule(data=st.data())
    def change_loads(self, data: st.DataObject) -> None:
        """
        Workers get busier or idler, fail and come back.
        """
        slots = self.table.slots
        figures = st.lists(st.integers(0, 3), min_size=slots, max_size=slots)
        self.world.loads = data.draw(figures)
        self.world.failed = data.draw(st.sets(st.integers(0, slots - 1)))

    @rule()
    def upgrade(self) -> None:
        """
        A successor takes over by way of a snapshot.
        """
        snapshot = json.loads(json.dumps(self.table.snapshot()))
        self.table = self.world.placement(self.MOST_KEYS, self.SECONDS)
        self.table.restore(snapshot)

    @invariant()
    def remembers_what_the_model_does(self) -> None:
        """
        The table never exceeds its bound, and holds the model's entries in its order.
        """
        if not hasattr(self, "table"):
            return
        assert len(self.table) <= self.MOST_KEYS
        self.prune()
        entries = [(bytes.fromhex(key), slot) for key, slot, _seconds in self.table.snapshot()]
        assert entries == [(key, slot) for key, slot, _used in self.model]


TableMachine.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
TestTable = TableMachine.TestCase


def test_turns_spread_evenly_over_many_newcomers() -> None:
    """
    Where loads stay equal no slot gets more newcomers than another, but one.
    """
    placement = World([0] * 7).placement()
    counts = Counter(placement.slot_of(number.to_bytes(4, "big")) for number in range(1000))
    assert max(counts.values()) - min(counts.values()) <= 1
