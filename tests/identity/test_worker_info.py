"""
What a worker says it is.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

import stickyd
from stickyd.identity.worker_info import WorkerInfo


def test_outside_of_a_worker() -> None:
    """
    It is the only one there is; asking needs no import but the package's.
    """
    code = (
        "import stickyd; w = stickyd.worker;"
        "print(w.slot, w.workers, repr(w.node), w.managed, w.relieved, 'slot' in dir(w))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "0 1 '' False False True\n"


def test_no_such_attribute() -> None:
    """
    A misspelt one is told as such.
    """
    with pytest.raises(AttributeError, match=r"'stickyd\.worker' has no attribute 'slots'"):
        getattr(stickyd.worker, "slots")  # noqa: B009
    with pytest.raises(AttributeError, match="'stickyd' has no attribute 'workers'"):
        getattr(stickyd, "workers")  # noqa: B009


def test_spare_gets_its_slot() -> None:
    """
    It has none before, but knows how many there are.
    """
    worker = WorkerInfo()
    worker.begin(-1, 0, "web1")
    assert (worker.slot, worker.workers, worker.node, worker.managed) == (-1, 1, "web1", True)
    worker.place(4)
    worker.occupy(2)
    assert (worker.slot, worker.workers, worker.relieved) == (2, 4, False)


@pytest.mark.parametrize(
    ("told", "relieved", "workers"),
    [(0, True, 4), (-1, False, 4), (3, False, 3), (2, True, 2), (6, False, 6)],
)
def test_relieved(told: int, relieved: bool, workers: int) -> None:
    """
    A worker is when a successor takes over and when its slot goes, and no more when it goes on
    after all.
    """
    worker = WorkerInfo()
    worker.begin(2, 4, "")
    worker.give_away(told)
    assert (worker.relieved, worker.workers) == (relieved, workers)
    worker.leave()
    assert worker.relieved
