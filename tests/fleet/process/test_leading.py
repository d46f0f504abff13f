"""
A worker that leads, as the primary sees it.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from stickyd.control.commands import LeadEnded, LeaseHeld, Stand
from tests.fleet.process.rig import KILLED, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stickyd.fleet.election import Election


@pytest.fixture
def rig() -> Iterator[Rig]:
    """
    A worker that serves, and whose application wants to lead.
    """
    made = Rig()
    election_of(made).open()
    made.ready()
    say(made, Stand, stands=True)
    yield made
    made.close()


def election_of(rig: Rig) -> Election:
    """
    What decides.
    """
    return rig.returns.election


def is_led(rig: Rig) -> bool:
    """
    Whether somebody leads.
    """
    return election_of(rig).leader is not None


def say(rig: Rig, command: type[Stand | LeaseHeld | LeadEnded], **arguments: Any) -> Any:
    """
    Have the worker say something.

    :return: what it is answered; None if it is not.
    """
    answers: list[Any] = []
    said = rig.reactor.control.callRemote(command, **arguments)
    if said is not None:
        said.addCallbacks(answers.append, lambda _: None)
    rig.flush()
    return answers[0] if answers else None


def test_from_the_beginning_to_the_end(rig: Rig) -> None:
    """
    It is told the term and the fleet; when it is told to stop, it leads until it says that it has
    ended.
    """
    election = election_of(rig)
    assert rig.reactor.control.leads == [(election.term, election.name, 0, 0.0)]
    rig.worker.stop(10.0)
    assert is_led(rig)
    assert say(rig, LeadEnded, term=election.term) == {"goes_on": False}
    assert not is_led(rig)
    assert rig.reactor.process.signals == []


def test_lease_of_all_machines(rig: Rig) -> None:
    """
    What the leader says of it is told to the next one.
    """
    election = election_of(rig)
    say(rig, LeaseHeld, term=77, until=123.5)
    # It is the next one itself.
    assert say(rig, LeadEnded, term=election.term) == {"goes_on": True}
    assert rig.reactor.control.leads[1:] == [(election.term, election.name, 77, 123.5)]


@pytest.mark.parametrize(("term", "until"), [(0, 1.0), (-1, 1.0), (2**60, 1.0), (1, float("inf"))])
def test_lease_that_is_none(rig: Rig, term: int, until: float) -> None:
    """
    Whoever says so is ended.
    """
    say(rig, LeaseHeld, term=term, until=until)
    assert rig.reactor.process.signals == [signal.SIGKILL]


def test_lease_of_who_does_not_lead(rig: Rig) -> None:
    """
    The same.
    """
    say(rig, LeadEnded, term=election_of(rig).term)
    say(rig, LeadEnded, term=election_of(rig).term)
    rig.worker.stop(10.0)
    say(rig, LeadEnded, term=election_of(rig).term)
    say(rig, LeaseHeld, term=1, until=1.0)
    assert rig.reactor.process.signals == [signal.SIGKILL]


def test_who_does_not_serve_is_not_told() -> None:
    """
    It may still fail to start.
    """
    rig = Rig()
    election_of(rig).open()
    rig.flush()
    say(rig, Stand, stands=True)
    assert rig.reactor.control.leads == []
    rig.reactor.control.answer.callback({})
    rig.flush()
    assert len(rig.reactor.control.leads) == 1
    rig.close()


def test_death(rig: Rig) -> None:
    """
    A dead worker leads no more; what it said before, and is heard after, is no breach.
    """
    election = election_of(rig)
    with capturedLogs() as told:
        rig.die(KILLED)
        assert not is_led(rig)
        say(rig, LeadEnded, term=election.term)
    assert not [event for event in told if "broke the protocol" in formatEvent(event)]


@pytest.mark.parametrize("off_by", [1, -1, 10**30])
def test_end_of_a_term_that_is_none(rig: Rig, off_by: int) -> None:
    """
    Whoever says so is ended, and another one leads when it is gone.
    """
    say(rig, LeadEnded, term=election_of(rig).term + off_by)
    assert rig.reactor.process.signals == [signal.SIGKILL]
    assert is_led(rig)


def test_changes_without_end(rig: Rig) -> None:
    """
    A worker that changes its mind all the time is ended, and not before it does so for long.
    """
    for number in range(3000):
        say(rig, Stand, stands=bool(number % 2))
        if rig.reactor.process.signals:
            break
    assert number > 1000
    assert rig.reactor.process.signals == [signal.SIGKILL]
