"""
How many relieved workers keep their clients, and how much memory they have.
"""

from __future__ import annotations

import pytest
from twisted.logger import capturedLogs, formatEvent

from stickyd.fleet.process.keeper_bounds import KeeperBounds
from stickyd.fleet.worker_limits import WorkerLimits
from tests.fleet.test_keepers import Rig as Keeping

MIB = 2**20


class Rig(Keeping):
    """
    Relieved workers of one slot, each a second after the other.

    :ivar limits: what they are allowed.
    """

    def __init__(self, leaving: int, memory_mib: int, *resident_mib: int) -> None:
        super().__init__()
        self.limits = WorkerLimits(3, 300.0, leaving, leaving_bytes=memory_mib * MIB)
        self.bounds = KeeperBounds(self.keepers, self.limits, lambda: 2)
        for generation, mib in enumerate(resident_mib, 1):
            _, worker = self.relieved(0, generation)
            worker.memory = float(mib * MIB)
            self.clock.advance(1.0)

    def look(self) -> list[int]:
        """
        Have the bounds looked at, as at a heartbeat.

        :return: the generations of those that give away what they have, so far.
        """
        self.bounds.look()
        return [keeper.home[1] for keeper in self.retired]


def test_the_oldest_gives_its_clients_away_when_memory_is_short() -> None:
    """
    One at a time, until the others have no more than they may; and the log says why.
    """
    rig = Rig(9, 250, 100, 100, 100, 40)
    with capturedLogs() as told:
        assert rig.look() == [1]
    (line,) = [formatEvent(event) for event in told]
    assert line is not None
    assert line.startswith("Worker 1001 (slot 0) gives its clients away before they have left: 340")
    assert "MiB are resident in 4 relieved workers (--max-leaving-memory)" in line
    assert rig.look() == [1]
    next(iter(rig.keepers.homes.values())).worker.memory = 0.0  # it does not count any more
    list(rig.keepers)[-1].worker.memory = float(60 * MIB)
    assert rig.look() == [1, 2]
    assert rig.look() == [1, 2]


@pytest.mark.parametrize(("memory_mib", "resident"), [(0, (9000, 9000)), (200, (100, 100))])
def test_nobody_is_hurried_without_need(memory_mib: int, resident: tuple[int, ...]) -> None:
    """
    Without a bound, and within it.
    """
    assert Rig(9, memory_mib, *resident).look() == []


def test_a_worker_that_has_its_slot_is_none_of_them() -> None:
    """
    What it has resident is not there for its old clients.
    """
    rig = Rig(9, 100, 80)
    slot, worker = rig.serve(1, 2)
    worker.memory = float(500 * MIB)
    rig.keepers.begin(slot, worker).stay()
    assert rig.look() == []


def test_there_are_so_many_for_each_slot() -> None:
    """
    More than ``--max-leaving`` times the slots, and the oldest gives away.
    """
    rig = Rig(2, 0, 1, 1, 1, 1)
    assert rig.look() == []
    rig.limits.leaving = 1
    assert rig.look() == [1]
    assert rig.look() == [1, 2]
    assert rig.look() == [1, 2]
