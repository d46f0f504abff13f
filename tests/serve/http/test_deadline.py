"""
Tests of the one deadline of a connection.
"""

from __future__ import annotations

from twisted.internet.task import Clock

from stickyd.serve.http.deadline import Deadline
from stickyd.serve.http.deadlines import Deadlines


class Rig:
    """
    A deadline, and when it has passed.
    """

    def __init__(self, seconds: float | None) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.passed: list[float] = []
        self.deadline = Deadline(
            self.deadlines, lambda: self.passed.append(int(self.clock.seconds()))
        )
        self.deadlines.add(self.deadline, seconds)

    def run(self, seconds: int) -> list[float]:
        """
        Let time pass.

        :return: when it has passed.
        """
        self.clock.pump([0.5] * 2 * seconds)
        return self.passed


def test_it_passes_once() -> None:
    """
    It passes when it was said to, once.
    """
    assert Rig(5).run(60) == [6]


def test_it_is_what_was_said_last() -> None:
    """
    Sooner, later, or never.
    """
    rig = Rig(5)
    rig.deadline.postpone(10)
    assert rig.run(8) == []
    rig.deadline.expect(30)
    assert rig.run(20) == []
    rig.deadline.expect(2)
    assert len(rig.run(4)) == 1
    rig.deadline.expect(None)
    assert len(rig.run(100)) == 1


def test_it_does_not_pass_after_its_end() -> None:
    """
    Once stopped it is not set any more, and leaves nothing behind.
    """
    rig = Rig(5)
    rig.deadline.stop()
    rig.deadline.expect(1)
    assert rig.run(60) == []
    assert rig.clock.getDelayedCalls() == []
