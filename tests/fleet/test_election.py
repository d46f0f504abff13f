"""
Which worker leads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from stickyd.fleet.election import SETTLE_SECONDS, Election
from stickyd.fleet.interfaces import ICandidate, IElection
from stickyd.fleet.process.candidate import Candidate

if TYPE_CHECKING:
    from collections.abc import Sequence


class Rig:
    """
    An election, and workers that lead when they are told to.

    :ivar told: who was told to lead, and for which term.
    """

    def __init__(self, count: int = 3, settled: bool = True) -> None:
        self.clock = Clock()
        self.election = Election(self.clock, lambda: 1000.0)
        if settled:
            self.election.open()
        self.told: list[tuple[int, int]] = []
        self.workers = [self.candidate(number) for number in range(count)]

    def candidate(self, number: int) -> Candidate:
        """
        One more worker.
        """
        return Candidate(self.election, number, lambda term: self.told.append((number, term)))

    def stand(self, *numbers: int) -> None:
        """
        Have workers that serve want to lead.
        """
        for number in numbers:
            self.workers[number].ask(True)
            self.workers[number].serve()


def test_fakes_and_seams() -> None:
    """
    Both sides are what they say.
    """
    rig = Rig()
    assert verifyObject(IElection, rig.election)
    assert verifyObject(ICandidate, rig.workers[0])
    assert str(rig.workers[2]) == "2"


def test_only_who_asks_and_serves_leads() -> None:
    """
    A worker that nobody asked to, one that does not serve yet, and one that leaves do not.
    """
    rig = Rig()
    rig.workers[0].serve()
    rig.workers[1].ask(True)
    assert rig.told == []
    rig.workers[1].leave()
    rig.workers[2].serve()
    rig.workers[2].ask(True)
    assert rig.told == [(2, 1_000_001)]


def test_next_leader_waits_for_the_end_of_the_former() -> None:
    """
    To leave is not to have ended.
    """
    rig = Rig()
    rig.stand(0, 1)
    assert rig.told == [(0, 1_000_001)]
    rig.workers[0].leave()
    assert len(rig.told) == 1
    assert rig.workers[0].end(1_000_001)
    assert rig.told[1:] == [(1, 1_000_002)]


def test_death_is_an_end() -> None:
    """
    The next one leads at once, whatever the dead one still has in its channel.
    """
    rig = Rig()
    rig.stand(0, 1)
    rig.workers[0].die()
    assert rig.told[1:] == [(1, 1_000_002)]
    assert rig.workers[0].end(1_000_001)
    rig.workers[0].ask(True)
    rig.workers[1].die()
    assert len(rig.told) == 2


def test_fresh_workers_are_preferred() -> None:
    """
    In a reload the others leave soon.
    """
    rig = Rig()
    rig.stand(0, 1, 2)
    rig.workers[0].die()
    assert rig.told[1:] == [(2, 1_000_002)]


def test_worker_that_was_stuck_comes_last() -> None:
    """
    It has ended by itself, and still stands.
    """
    rig = Rig()
    rig.stand(0, 1)
    assert rig.workers[0].end(1_000_001)
    assert rig.workers[1].end(1_000_002)
    assert [number for number, _ in rig.told] == [0, 1, 0]


def test_end_of_a_term_that_is_none() -> None:
    """
    A worker that does not lead cannot end to.
    """
    rig = Rig()
    assert not rig.workers[0].end(0)
    rig.stand(0)
    assert not rig.workers[0].end(7)
    assert rig.workers[0].end(1_000_001)
    rig.workers[0].leave()


def test_nobody_leads_while_a_former_primarys_workers_may() -> None:
    """
    A primary waits a little after its start.
    """
    rig = Rig(settled=False)
    rig.stand(0, 1)
    rig.clock.advance(SETTLE_SECONDS - 0.1)
    assert rig.told == []
    rig.clock.advance(0.2)
    assert rig.told == [(1, 1_000_001)]
    assert not rig.clock.getDelayedCalls()


@pytest.mark.parametrize("dies", [False, True])
def test_upgrade(dies: bool) -> None:
    """
    The leader goes on, and no other one begins, until it ends; terms go on from the former's.
    """
    rig = Rig()
    rig.stand(0, 1)
    plains = [worker.dump_state() for worker in rig.workers]
    term = rig.election.term
    after = Rig(settled=False)
    after.election.restore_state({**rig.election.dump_state(), "term": term + 5})
    assert after.election.name == rig.election.name != Rig().election.name
    for worker, plain in zip(after.workers, plains, strict=True):
        worker.restore_state(plain)
    if dies:
        after.workers[0].die()
    after.election.open()
    assert after.told == ([(1, term + 6)] if dies else [])
    if not dies:
        after.workers[0].leave()
        assert after.workers[0].end(term)
        assert after.told == [(1, term + 6)]


class Returns:
    """
    What is given back of the lease of all machines.
    """

    def __init__(self, rig: Rig) -> None:
        self.terms: list[int] = []
        self.prepared = 0
        self._name = rig.election.name
        rig.election.give_back_by(self)

    def prepare(self) -> None:
        self.prepared += 1

    def give_back(self, fleet: str, term: int) -> None:
        assert fleet == self._name
        self.terms.append(term)


def test_lease_of_the_dead() -> None:
    """
    The next leader goes on with it.  If there is none, it is given back, once, and nobody is told
    of it any more.
    """
    rig = Rig()
    returns = Returns(rig)
    rig.stand(0, 1)
    assert rig.workers[0].hold(77, 5.0)
    assert returns.prepared == 1
    rig.workers[0].die()
    assert (returns.terms, rig.election.held, rig.election.is_led) == ([], (77, 5.0), True)
    rig.workers[1].die()
    assert (returns.terms, rig.election.held, rig.election.is_led) == ([77], (0, 0.0), False)
    rig.stand(2)
    rig.workers[2].die()
    assert returns.terms == [77]


def test_lease_of_who_has_ended() -> None:
    """
    A worker that lives gives it back itself.
    """
    rig = Rig()
    returns = Returns(rig)
    rig.stand(0)
    assert rig.workers[0].hold(77, 5.0)
    rig.workers[0].leave()
    assert rig.workers[0].end(1_000_001)
    assert (returns.terms, rig.election.held, rig.election.is_led) == ([], (0, 0.0), False)


@pytest.mark.parametrize("next_one", [False, True])
def test_lease_of_who_dies_while_the_primary_replaces_its_code(next_one: bool) -> None:
    """
    It is not given back before all candidates are known.
    """
    rig = Rig(settled=False)
    rig.election.restore_state({"term": 7, "name": "fleet", "held": [77, 5.0]})
    returns = Returns(rig)
    rig.workers[0].restore_state({"asks": True, "serves": True, "term": 7})
    rig.workers[0].die()
    if next_one:
        rig.stand(1)
    assert returns.terms == []
    rig.election.open()
    assert returns.terms == ([] if next_one else [77])
    assert rig.election.held == ((77, 5.0) if next_one else (0, 0.0))
    assert returns.prepared == next_one


@given(st.lists(st.tuples(st.sampled_from(["ask", "serve", "leave", "end", "die", "drop"]),
                          st.integers(0, 3)), max_size=60))  # fmt: skip
def test_never_two(steps: Sequence[tuple[str, int]]) -> None:
    """
    Whatever happens in whatever order, one leads at most, terms grow, and somebody does whenever
    somebody can.
    """
    rig = Rig(4)
    leading: set[int] = set()
    heard = 0
    can: dict[int, set[str]] = {number: set() for number in range(4)}
    dead: set[int] = set()
    for step, number in steps:
        worker = rig.workers[number]
        if step == "ask":
            worker.ask(True)
            can[number].add("ask")
        elif step == "drop":
            worker.ask(False)
            can[number].discard("ask")
        elif step == "serve" and number not in dead:
            worker.serve()
            can[number].add("serve")
        elif step == "leave":
            worker.leave()
            can[number].discard("serve")
        elif step == "end" and number in leading:
            leading.discard(number)
            assert worker.end(rig.told[-1][1])
        elif step == "die" and number not in dead:
            leading.discard(number)
            dead.add(number)
            can[number].clear()
            worker.die()
        if number in dead:
            can[number].discard("serve")
        for told, _ in rig.told[heard:]:
            assert told not in dead
            assert not leading
            leading.add(told)
        heard = len(rig.told)
        assert leading or not any(len(found) == 2 for found in can.values())
    terms = [term for _, term in rig.told]
    assert terms == sorted(set(terms))
