"""
Fault 20: one reload at a time, and the newest of those that wait.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from stickyd.fleet.newest_waits import NewestWaits


class Doing:
    """
    What is done, and when it ends.
    """

    def __init__(self) -> None:
        self.begun: list[tuple[str | None, Deferred[str]]] = []
        self.newest: NewestWaits[str, str] = NewestWaits(self._act)
        self.heard: list[object] = []

    def _act(self, wanted: str | None) -> Deferred[str]:
        done: Deferred[str] = Deferred()
        self.begun.append((wanted, done))
        return done

    def ask(self, wanted: str | None) -> None:
        """
        Ask for something, and note what is heard of it.
        """
        self.newest.ask(wanted).addBoth(self.heard.append)

    @property
    def wanted(self) -> list[str | None]:
        """
        What was begun so far.
        """
        return [wanted for wanted, _ in self.begun]

    def end(self, outcome: str) -> None:
        """
        End what was begun last.
        """
        self.begun[-1][1].callback(outcome)


def test_fault_20_the_newest_of_fifty_stands_for_all() -> None:
    """
    Fault 20: fifty wishes are two deeds, and the last wish wins.
    """
    doing = Doing()
    for number in range(50):
        doing.ask(str(number))
    assert doing.wanted == ["0"]
    doing.end("first")
    assert doing.wanted == ["0", "49"]
    assert doing.heard == ["first"]
    doing.end("second")
    assert doing.wanted == ["0", "49"]
    assert doing.heard == ["first", *["second"] * 49]
    assert not doing.newest.is_busy


def test_who_does_not_care_takes_nothing_back() -> None:
    """
    A wish without settings keeps those that somebody else waits for.
    """
    doing = Doing()
    for wanted in ("a", "b", None):
        doing.ask(wanted)
    doing.end("")
    assert doing.wanted == ["a", "b"]
    doing.end("")
    doing.ask(None)
    assert doing.wanted == ["a", "b", None]


def test_who_asks_while_being_told_waits_too() -> None:
    """
    An outcome may lead to the next wish at once.
    """
    doing = Doing()
    doing.newest.ask("a").addCallback(lambda _: doing.ask("b"))
    doing.ask("c")
    doing.end("done")
    assert doing.wanted == ["a", "c"]
    doing.end("done")
    assert doing.wanted == ["a", "c", "b"]


def test_failure_is_told_and_nothing_stops() -> None:
    """
    Whatever goes wrong, the next one is done.
    """
    doing = Doing()
    outcome = doing.newest.ask("a")
    doing.ask("b")
    doing.begun[0][1].errback(ZeroDivisionError())
    failed: list[object] = []
    outcome.addErrback(lambda failure: failed.append(failure.type))
    assert failed == [ZeroDivisionError]
    assert doing.wanted == ["a", "b"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_done_at_once(count: int) -> None:
    """
    What ends at once is told at once.
    """
    done: list[str | None] = []

    def act(wanted: str | None) -> Deferred[str]:
        done.append(wanted)
        fired: Deferred[str] = Deferred()
        fired.callback("")
        return fired

    newest: NewestWaits[str, str] = NewestWaits(act)
    heard: list[str] = []
    for number in range(count):
        newest.ask(str(number)).addCallback(heard.append)
    assert done == [str(number) for number in range(count)]
    assert heard == [""] * count
