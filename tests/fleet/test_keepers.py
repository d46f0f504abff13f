"""
Who keeps clients, and whom, as the primary knows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from stickyd.fleet.keeper import Keeper
from stickyd.fleet.keepers import Keepers
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.handoff.frame import BY_KEY, Handoff
from stickyd.testing import FakeRefusal, FakeSpawner

if TYPE_CHECKING:
    from stickyd.testing import FakeWorker


class Rig:
    """
    Keepers of slots without a fleet.
    """

    def __init__(self, most: int = 100) -> None:
        self.clock = Clock()
        self.clock.advance(1)
        self.spawner = FakeSpawner()
        self.delivered: list[Handoff] = []
        self.retired: list[Keeper] = []
        self.changes = 0
        self.keepers = Keepers(self.clock, most)
        self.keepers.open(self.slot, self.delivered.append, self._changed, self.retired.append)

    def _changed(self) -> None:
        self.changes += 1

    def slot(self, index: int) -> Slot:
        """
        A slot with nobody in it.
        """
        return Slot(index, self.clock, QueueLimits(10, 100.0), FakeRefusal())

    def serve(self, index: int, generation: int) -> tuple[Slot, FakeWorker]:
        """
        A slot whose worker serves.
        """
        slot = self.slot(index)
        slot.renew(generation)
        worker = self.spawner.spawn(slot, lambda: None, lambda cause: None)
        slot.occupy(worker)
        return slot, worker

    def relieved(self, index: int, generation: int, *keys: bytes) -> tuple[Slot, FakeWorker]:
        """
        A worker that was relieved and keeps clients.
        """
        slot, worker = self.serve(index, generation)
        self.keepers.begin(slot, worker)
        self.keepers.learn((index, generation), keys, ())
        slot.hold(None)
        self.keepers.relieve(worker, 60.0)
        return slot, worker


def by_key(key: bytes) -> Handoff:
    """
    A connection with a key.
    """
    return Handoff(0, "192.0.2.1", 1, key)


def by_token(slot: int, generation: int) -> Handoff:
    """
    A connection with a token.
    """
    handoff = Handoff(0, "192.0.2.1", 1, b"", slot=slot)
    handoff.generation = generation
    return handoff


def test_a_client_is_found_by_token_key_or_id() -> None:
    """
    Tokens lead to slot and generation, keys and ids to who has reported them.
    """
    rig = Rig()
    _, worker = rig.relieved(1, 3, b"a")
    rig.keepers.learn((1, 3), (), (b"i" * 16,))
    keeper = rig.keepers.of(worker)
    assert rig.keepers.find(by_key(b"a")) is keeper
    assert rig.keepers.find(by_token(1, 3)) is keeper
    assert rig.keepers.keeper_of_id(b"i" * 16) == (1, 3)
    for stranger in (by_key(b"b"), by_token(1, 2), by_token(1, 0), by_token(2, 3)):
        assert rig.keepers.find(stranger) is None
    assert rig.keepers.for_workers == ([(1, 3)], True)


def test_a_client_that_has_moved_on_is_whoever_else_keeps_it() -> None:
    """
    A worker's word that it does not know a client counts for itself alone.
    """
    rig = Rig()
    rig.relieved(1, 3, b"a")
    _, worker = rig.relieved(1, 4, b"b")
    rig.keepers.forget((1, 4), [b"a"], ())
    keeper = rig.keepers.find(by_key(b"a"))
    assert keeper is not None
    assert keeper.home == (1, 3)
    rig.keepers.forget((1, 3), [b"a"], ())
    assert rig.keepers.find(by_key(b"a")) is None
    assert rig.keepers.find(by_key(b"b")) is rig.keepers.of(worker)


def test_what_waits_is_divided_at_the_switch_over() -> None:
    """
    Connections that waited for the switch-over go to whoever knows their clients.
    """
    rig = Rig()
    slot, worker = rig.serve(0, 1)
    rig.keepers.begin(slot, worker)
    slot.hold(None)
    mine, token, other = by_key(b"a"), by_token(0, 1), by_key(b"b")
    # Found by ids that the worker had claimed, before it has said whom it keeps.
    learned, another = by_token(0, 0), by_token(0, 0)
    learned.learned, another.learned = b"i" * 16, b"j" * 16
    for handoff in (mine, token, learned, other, another):
        slot.deliver(handoff)
    rig.keepers.learn((0, 1), (b"a",), (b"i" * 16,))
    rig.keepers.relieve(worker, 60.0)
    assert worker.sent == [mine, token, learned]
    assert list(slot.queue) == [other, another]
    assert rig.changes == 1


def test_a_keeper_retires_at_its_deadline_once() -> None:
    """
    The deadline has it give its clients away, and when it has ended nothing is left of it.
    """
    rig = Rig()
    _, worker = rig.relieved(0, 1, b"a")
    keeper = rig.keepers.of(worker)
    worker.window = 0
    waiting = by_key(b"a")
    assert keeper is not None
    keeper.queue.deliver(waiting)
    assert rig.keepers.queued() == 1
    rig.clock.advance(60.0)
    assert rig.retired == [keeper]
    rig.keepers.end(worker)
    assert rig.delivered == [waiting]
    assert rig.keepers.find(by_key(b"a")) is None
    assert (len(rig.keepers), rig.keepers.queued()) == (0, 0)
    rig.keepers.end(worker)
    rig.keepers.retire(keeper)
    assert rig.retired == [keeper]


def test_it_retires_once_though_its_turn_may_come_later() -> None:
    """
    Whoever finds that it has to, and however often, it is told once; unless it has its slot again
    meanwhile.
    """
    rig = Rig()
    slot, worker = rig.serve(0, 1)
    keeper = rig.keepers.begin(slot, worker)
    rig.keepers.end_after(worker, 60.0)
    rig.keepers.retire(keeper)
    rig.keepers.retire(keeper)
    rig.clock.advance(60.0)
    assert rig.retired == [keeper]
    assert keeper.is_retiring
    rig.keepers.end_after(worker, None)
    assert not keeper.is_retiring


def test_there_is_room_for_so_many_and_the_rest_is_counted() -> None:
    """
    Those reported first, which came last to their worker, have the room.
    """
    rig = Rig(most=3)
    rig.relieved(0, 1, b"a", b"b")
    rig.relieved(1, 1, b"c", b"d", b"e")
    assert len(rig.keepers) == 3
    assert rig.keepers.cut == 2
    assert rig.keepers.find(by_key(b"c")) is not None
    assert rig.keepers.find(by_key(b"d")) is None


def test_one_that_has_its_slot_is_a_keeper_only_while_somebody_is_remembered() -> None:
    """
    After a resize a worker keeps whose keys belong elsewhere, until they have moved on.
    """
    rig = Rig()
    slot, worker = rig.serve(0, 1)
    rig.keepers.begin(slot, worker)
    rig.keepers.learn((0, 1), (b"a",), ())
    rig.keepers.prune()
    keeper = rig.keepers.find(by_key(b"a"))
    assert keeper is not None
    assert keeper.queue is slot
    rig.keepers.forget((0, 1), (b"a",), ())
    assert len(rig.keepers.homes) == 0
    rig.keepers.begin(slot, worker)
    rig.keepers.prune()
    assert len(rig.keepers.homes) == 0


def test_a_drained_one_is_until_its_deadline_or_until_clients_come_back() -> None:
    """
    Tokens lead to a drained worker, though its slot gets nobody else.
    """
    rig = Rig()
    slot, worker = rig.serve(0, 1)
    rig.keepers.begin(slot, worker).stay()
    rig.keepers.end_after(worker, 60.0)
    rig.keepers.prune()
    keeper = rig.keepers.find(by_token(0, 1))
    assert keeper is not None
    rig.clock.advance(60.0)
    assert rig.retired == [keeper]
    rig.keepers.end_after(worker, None)
    rig.keepers.prune()
    assert not rig.keepers.homes
    assert not rig.clock.getDelayedCalls()


def test_a_drained_one_that_is_relieved_has_one_deadline() -> None:
    """
    The deadline of the drain is none any more when that of the relief begins.
    """
    rig = Rig()
    slot, worker = rig.serve(0, 1)
    keeper = rig.keepers.begin(slot, worker)
    keeper.stay()
    rig.keepers.end_after(worker, 60.0)
    rig.clock.advance(30.0)
    slot.hold(None)
    rig.keepers.relieve(worker, 60.0)
    assert len(rig.clock.getDelayedCalls()) == 1
    slot.hold(worker)
    rig.keepers.reinstate(worker, slot)
    assert not rig.clock.getDelayedCalls()
    assert rig.retired == []


def test_one_that_is_asked_whom_it_knows_is_a_keeper_whatever_it_says() -> None:
    """
    A worker that is about to be relieved may know nobody by a key, and has to be found by tokens.
    """
    rig = Rig()
    slot, worker = rig.serve(0, 1)
    rig.keepers.begin(slot, worker).stay()
    rig.keepers.forget((0, 1), (b"a",), ())
    assert rig.keepers.find(by_token(0, 1)) is not None


def test_it_goes_on_after_an_upgrade() -> None:
    """
    What was written down is there again, and the deadlines are as far away as they were.
    """
    rig = Rig()
    _, relieved = rig.relieved(0, 1, b"a")
    slot, serving = rig.serve(1, 1)
    rig.keepers.begin(slot, serving)
    rig.keepers.learn((1, 1), (b"b",), (b"i" * 16,))
    rig.clock.advance(20.0)
    plain = rig.keepers.dump_state()

    after = Rig()
    slots = [rig.slot(0), rig.slot(1)]
    workers: dict[int, Any] = {
        relieved.pid: (relieved, slots[0]),
        serving.pid: (serving, slots[1]),
    }
    after.keepers.restore_state(plain, workers)
    found = after.keepers.find(by_key(b"a"))
    assert found is not None
    assert found.worker.pid == relieved.pid
    assert found.is_relieved
    assert found.since == after.clock.seconds() - 20.0
    assert after.keepers.keeper_of_id(b"i" * 16) == (1, 1)
    after.clock.advance(39.0)
    assert after.retired == []
    after.clock.advance(1.0)
    assert after.retired == [found]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["learn", "forget", "end"]),
            st.integers(0, 2),
            st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), unique=True, max_size=4),
        ),
        max_size=30,
    )
)
def test_counts_are_those_of_the_table(steps: list[tuple[str, int, list[bytes]]]) -> None:
    """
    Whatever is said in whatever order: each keeper counts what is remembered of it, nothing is
    remembered of one that is none, and the bound holds.
    """
    rig = Rig(most=4)
    workers = [rig.relieved(index, 1)[1] for index in range(3)]
    for what, index, keys in steps:
        if what == "learn":
            rig.keepers.learn((index, 1), keys, ())
        elif what == "forget":
            rig.keepers.forget((index, 1), keys, ())
        else:
            rig.keepers.end(workers[index])
    assert len(rig.keepers) <= 4
    kept = {key: rig.keepers.keeper_of_key(key) for key in (b"a", b"b", b"c", b"d", b"e")}
    found = [keeper for keeper in kept.values() if keeper is not None]
    assert len(found) == len(rig.keepers)
    for keeper in rig.keepers:
        assert keeper.count == found.count(keeper)
    assert all(keeper.home in rig.keepers.homes for keeper in found)
    assert by_key(b"a").slot == BY_KEY
