"""
Whom a worker knows, and whom it names to the primary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from stickyd.affinity.spec import parse_affinity
from stickyd.handoff.frame import Handoff
from stickyd.sessions.record import UNKNOWN_CLIENT
from stickyd.worker.known_clients import ID, KEY, TOKEN, KnownClients

if TYPE_CHECKING:
    from collections.abc import Iterable

IDLE_SECONDS = 100.0

Told = tuple[list[bytes], list[bytes], bool, bool]


class Rig:
    """
    What a worker knows; what it has told the primary.
    """

    def __init__(self, entries: str = "ip", most: int = 5) -> None:
        self.clock = Clock()
        self.told: list[Told] = []
        self.present: Iterable[bytes] = ()
        self.is_slow = False
        self.carried: list[Deferred[None]] = []
        self.known = KnownClients(
            self.clock, parse_affinity(entries), IDLE_SECONDS, most, self._tell
        )
        self.known.begin(lambda: self.present, self._carry)

    def _carry(self) -> Deferred[None]:
        if not self.is_slow:
            return succeed(None)
        self.carried.append(Deferred())
        return self.carried[-1]

    def _tell(
        self, keys: list[bytes], ids: list[bytes], gone: bool, finished: bool
    ) -> Deferred[object]:
        self.told.append((keys, ids, gone, finished))
        return succeed(None)

    def keep(self, is_relieved: bool = True, moves: bool = True) -> list[Told]:
        """
        Have it keep its clients; give what it tells.
        """
        del self.told[:]
        assert self.known.keep(is_relieved, lambda key: moves).called
        return self.told


def test_silent_clients_are_forgotten_and_present_ones_are_not() -> None:
    """
    A client is known for as long as it has a connection or sends something.
    """
    rig = Rig()
    for mark in (b"k1", b"k2", b"k3"):
        rig.known.add(mark)
    rig.present = [b"k2"]
    rig.clock.pump([10] * 9)
    rig.known.add(b"k3")
    rig.clock.pump([10] * 2)
    assert b"k1" not in rig.known
    rig.present = []
    rig.clock.pump([10] * 7)
    assert b"k3" in rig.known
    rig.clock.pump([10] * 5)
    assert len(rig.known) == 0
    assert rig.told == []


def test_those_longest_silent_make_room() -> None:
    """
    The table is bounded, and what was cut is counted.
    """
    rig = Rig(most=2)
    for mark in (b"k1", b"k2", b"k1", b"k3"):
        rig.known.add(mark)
    assert [mark in rig.known for mark in (b"k1", b"k2", b"k3")] == [True, False, True]
    assert rig.known.cut == 1


def test_a_relieved_worker_admits_only_whom_it_knows() -> None:
    """
    While it has its slot everybody is a client; afterwards those that were.
    """
    rig = Rig()
    assert rig.known.admits(b"k1")
    rig.keep()
    assert rig.known.admits(b"k1")
    assert not rig.known.admits(b"k2")
    rig.known.stay()
    assert rig.known.admits(b"k2")


def test_it_names_what_its_own_word_alone_leads_to_it_by() -> None:
    """
    Keys and learned ids are named, the one that came last first; tokens lead here by themselves.
    """
    rig = Rig()
    for mark in (KEY + b"a", ID + b"b", TOKEN + b"c", KEY + b"d"):
        rig.known.add(mark)
    assert rig.keep() == [([b"d", b"a"], [], False, False), ([], [b"b"], False, False)]


def test_a_worker_that_has_its_slot_names_keys_that_belong_elsewhere_now() -> None:
    """
    At a resize an id goes by its slot, and a key by its own word only where it moves.
    """
    rig = Rig()
    rig.known.add(KEY + b"a")
    rig.known.add(ID + b"b")
    assert rig.keep(is_relieved=False) == [([b"a"], [], False, False)]
    assert rig.keep(is_relieved=False, moves=False) == []


def test_the_primary_hears_who_is_known_no_longer_and_that_nobody_is() -> None:
    """
    A keeper tells who has been released or silent, and once that it keeps nobody.
    """
    rig = Rig()
    rig.known.add(KEY + b"a")
    rig.known.add(TOKEN + b"t")
    rig.known.release(KEY + b"never seen")
    rig.keep()
    del rig.told[:]
    rig.known.release(KEY + b"a")
    assert rig.told == [([b"a"], [], True, False)]
    rig.clock.pump([10] * 12)
    assert rig.told[1] == ([], [], True, True)


def test_whose_session_was_deleted_is_known_until_the_next_request() -> None:
    """
    It is a newcomer then, unless it has another session by then; who is not here and sends nothing
    is not waited for.
    """
    rig = Rig("cookie:stickyd")
    for mark in (b"t1", b"t2", b"t3"):
        rig.known.admits(mark)
        rig.known.note_session(mark, True)
    rig.keep()
    rig.known.note_session(b"t1", False)
    assert not rig.known.admits(b"t1")
    rig.known.note_session(b"t1", False)
    rig.known.note_session(b"t2", False)
    rig.known.note_session(b"t2", True)
    assert rig.known.admits(b"t2")
    rig.known.note_session(b"t3", False)
    rig.present = [b"t3"]
    rig.clock.pump([2])
    assert b"t3" in rig.known
    rig.present = []
    rig.clock.pump([2])
    assert [mark in rig.known for mark in (b"t1", b"t2", b"t3")] == [False, True, False]


def test_a_worker_that_has_its_slot_goes_on_with_who_has_logged_out() -> None:
    """
    A request after the logout makes its client known as any other does; without one, the client
    is not known any more when the worker is relieved.
    """
    rig = Rig("stamp:X-Id")
    for mark in (b"t1", b"t2"):
        rig.known.admits(mark)
        rig.known.note_session(mark, False)
    assert rig.known.admits(b"t1")
    rig.keep()
    assert [rig.known.admits(mark) for mark in (b"t1", b"t2")] == [True, False]


@pytest.mark.parametrize("entries", ["ip", "header:X-User", "path:/(.*)", "minted:query:room"])
def test_a_session_is_not_all_of_what_several_clients_share(entries: str) -> None:
    """
    Where a mark may be several clients', one's logout is not the others'.
    """
    rig = Rig(entries)
    rig.known.admits(b"k1")
    rig.known.note_session(b"k1", False)
    rig.keep()
    assert rig.known.admits(b"k1")


def test_one_that_knows_nobody_says_so_at_the_next_look() -> None:
    """
    A worker that is relieved and has no clients need not wait for anybody.
    """
    rig = Rig()
    assert rig.keep() == []
    for _ in range(3):
        # The primary may not have promoted its successor at first.
        rig.clock.pump([2])
        assert rig.told.pop() == ([], [], True, True)


def test_connections_are_met_by_their_key() -> None:
    """
    A connection that came for its key makes its client known; one that came for a token, or
    where tokens name clients, does not.
    """
    rig = Rig()
    by_key = Handoff(0, "192.0.2.1", 1, b"1")
    assert rig.known.meets(by_key)
    assert by_key.client == KEY + b"1"
    assert rig.known.meets(Handoff(0, "192.0.2.1", 1, b"2", slot=3))
    assert len(rig.known) == 1
    rig.keep()
    assert rig.known.meets(Handoff(0, "192.0.2.1", 2, b"1"))
    assert not rig.known.meets(Handoff(0, "192.0.2.1", 2, b"2"))
    for entries in ("cookie:stickyd,ip", "learn:query:sid,ip", "stamp:X-Id,ip"):
        rig = Rig(entries)
        assert rig.known.meets(Handoff(0, "192.0.2.1", 1, b"1"))
        assert len(rig.known) == 0


@given(st.lists(st.binary(min_size=1, max_size=300), unique=True, max_size=60))
def test_long_reports_come_in_pieces_that_fit(keys: list[bytes]) -> None:
    """
    Whatever the keys are, a message fits into one of the control channel, and all are told.
    """
    rig = Rig(most=10_000)
    for number in range(20):
        for key in keys:
            rig.known.add(KEY + key + b"%d" % number)
    told = rig.keep()
    assert sum(len(each[0]) for each in told) == 20 * len(keys)
    assert all(sum(len(key) + 2 for key in each[0]) < 65536 for each in told)


@pytest.mark.parametrize("relieved", [True, False])
def test_who_was_given_away_is_unknown(relieved: bool) -> None:
    """
    After everything was given away nobody is known, and nobody is told of that.
    """
    rig = Rig()
    rig.known.add(KEY + b"a")
    rig.keep(relieved)
    del rig.told[:]
    rig.known.forget_all()
    assert len(rig.known) == 0
    rig.clock.pump([10] * 12)
    assert [each for each in rig.told if each[0] or each[1]] == []


def test_the_primary_hears_of_who_is_dropped_when_their_sessions_have_left() -> None:
    """
    Who is silent, or released, is unknown at once; their connections come here, though, until the
    sessions are where newcomers go.
    """
    rig = Rig()
    for name in (b"a", b"b", b"c"):
        rig.known.add(KEY + name)
    rig.keep()
    rig.is_slow = True
    del rig.told[:]
    rig.known.release(KEY + b"a")
    assert KEY + b"a" not in rig.known
    assert rig.told == []
    rig.carried.pop().callback(None)
    assert rig.told == [([b"a"], [], True, False)]
    rig.present = [KEY + b"c"]
    rig.clock.pump([2] * 51)
    assert KEY + b"b" not in rig.known
    assert not any(told[0] for told in rig.told[1:])
    for carried in rig.carried:
        carried.callback(None)
    assert ([b"b"], [], True, False) in rig.told


def test_who_is_cut_leaves_with_the_next_look() -> None:
    """
    Where there is no room for more, not every newcomer has all sessions looked at.
    """
    rig = Rig(most=2)
    rig.keep(is_relieved=False)
    rig.is_slow = True
    for number in range(9):
        rig.known.add(KEY + b"%d" % number)
    assert rig.carried == []
    rig.clock.pump([10])
    (carried,) = rig.carried
    del rig.told[:]
    carried.callback(None)
    assert rig.told == [([b"%d" % number for number in range(7)], [], True, False)]


def test_whose_sessions_are_kept() -> None:
    """
    Of clients that are known; and those that nobody was known by when they were begun, until they
    have not been used for as long as a client may be silent.
    """
    rig = Rig()
    rig.known.add(TOKEN + b"a")
    assert rig.known.keeps(TOKEN + b"a", 1e9)
    assert not rig.known.keeps(TOKEN + b"b", 0.0)
    assert not rig.known.keeps(UNKNOWN_CLIENT, 0.0)
    assert rig.known.keeps(b"", IDLE_SECONDS - 1)
    assert not rig.known.keeps(b"", IDLE_SECONDS)
