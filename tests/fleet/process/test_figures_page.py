"""
The page that a worker counts on, from both ends.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
from typing import TYPE_CHECKING

import pytest

from stickyd.errors import ControlError
from stickyd.figures.app_figures import AppSeen
from stickyd.figures.fleet_figures import FleetFigures
from stickyd.figures.page import HANDOFF, PAGE_BYTES
from stickyd.figures.request_counts import RequestCounts
from stickyd.fleet.process.figures_page import FiguresPage

if TYPE_CHECKING:
    from collections.abc import Iterator


class Rig:
    """
    A page, and a worker's view of it.
    """

    def __init__(self) -> None:
        self.page = FiguresPage()
        self.descriptor = self.page.open()
        self.memory = mmap.mmap(self.descriptor, PAGE_BYTES)
        self.view = memoryview(self.memory).cast("Q")
        self.counts = RequestCounts(self.view)

    def close(self) -> None:
        """
        Give everything back.
        """
        self.page.close()
        self.view.release()
        self.counts.page.release()


@pytest.fixture
def rig() -> Iterator[Rig]:
    """
    A rig that is closed at the end.
    """
    rig = Rig()
    yield rig
    rig.close()


def test_what_was_counted_is_seen_once(rig: Rig) -> None:
    """
    A read gives what has grown since the one before, and nothing if nothing has.
    """
    assert rig.page.read() == ()
    rig.counts.end(200, rig.counts.begin())
    rig.view[HANDOFF] += 2
    assert rig.page.read()[HANDOFF] == 2
    assert rig.page.read() == ()
    rig.counts.begin()
    rig.page.read()
    assert rig.page.figures.in_flight == 1
    assert rig.page.figures.numbers[HANDOFF] == 2


def test_number_that_goes_back_is_refused(rig: Rig) -> None:
    """
    No worker of ours counts backwards.
    """
    rig.view[HANDOFF] = 5
    rig.page.read()
    rig.view[HANDOFF] = 4
    with pytest.raises(ControlError, match="figure 2 on its page that went from 5 to 4"):
        rig.page.read()


def test_number_beyond_all_measure_is_refused(rig: Rig) -> None:
    """
    Nor does one take part in so many requests.
    """
    rig.view[HANDOFF] = 2**64 - 1
    with pytest.raises(ControlError, match="went from 0 to 18446744073709551615"):
        rig.page.read()


def test_page_that_is_cut_short_is_refused(rig: Rig) -> None:
    """
    A worker that cuts the file short does not take the primary with it.
    """
    rig.counts.begin()
    os.truncate(rig.descriptor, 17)
    with pytest.raises(ControlError, match="a page of 17 bytes"):
        rig.page.read()


def test_page_outlives_the_code_of_the_primary(rig: Rig) -> None:
    """
    Another object goes on where this one was, and counts nothing twice.
    """
    rig.view[HANDOFF] = 5
    rig.page.read()
    plain = rig.page.dump_state()
    assert plain is not None
    rig.view[HANDOFF] = 7
    heir = FiguresPage()
    heir.restore_state({**plain, "descriptor": os.dup(plain["descriptor"])})
    assert heir.read()[HANDOFF] == 2
    heir.close()
    assert heir.read() == ()
    assert heir.dump_state() is None


def test_page_of_an_older_version_is_shorter(rig: Rig) -> None:
    """
    A worker that was started by a version that counts less is read as far as it counts.
    """
    rig.view[HANDOFF] = 5
    descriptor = os.dup(rig.descriptor)
    os.truncate(descriptor, 64)
    heir = FiguresPage()
    heir.restore_state({"descriptor": descriptor, "numbers": [0] * 8})
    assert heir.read()[HANDOFF] == 5
    heir.close()


def test_worker_without_a_page_counts_nothing() -> None:
    """
    One that an older version has started has none.
    """
    page = FiguresPage()
    page.restore_state(None)
    assert page.read() == ()
    page.close()


def test_workers_without_end_leave_nothing() -> None:
    """
    Ten thousand that come, count and go: no descriptor, no file, and no more to write down than
    after the first.
    """
    figures = FleetFigures()
    slot = figures.slot(0)
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    sizes = []
    for number in range(10_000):
        page = FiguresPage()
        descriptor = page.open()
        os.pwrite(descriptor, b"\1" + b"\0" * 7, 0)
        seen = AppSeen(figures.application)
        seen.hear(0, '[["hits","counter","","all",[["hits_total",[],1]]]]')
        slot.add(page.read(), float(number))
        slot.lose(page.figures.in_flight)
        slot.died("exited with code 1")
        seen.end(0)
        page.close()
        if number in (100, 9_999):
            sizes.append(len(json.dumps(figures.dump_state())))
    assert len(os.listdir("/dev/fd")) == before
    assert sizes[1] - sizes[0] < 100  # the numbers have more digits
    assert slot.requests == 10_000
    assert slot.in_flight == 0
    assert figures.application.dump_state()[0][4] == [["hits_total", (), 10_000]]
