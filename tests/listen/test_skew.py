"""
Noticing that one key has more than half of the connections.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from stickyd.affinity.key_counts import MOST_KEYS, KeyCounts, Report
from stickyd.handoff.frame import Handoff
from stickyd.interfaces import IDestination
from stickyd.listen.skew import ENOUGH, EVERY, QUIET_SECONDS, WINDOW_SECONDS, SkewWatch
from stickyd.testing import FakeDestination


class Rig:
    """
    A watch on a clock that the test advances.
    """

    def __init__(self, slots: int = 2) -> None:
        self.clock = Clock()
        self.destination = FakeDestination()
        self.watch = SkewWatch(self.destination, self.clock, lambda: slots)

    def come(self, keys: Iterable[int], slot: int | None = None) -> list[str]:
        """
        Let clients come.

        :return: what was logged.
        """
        with capturedLogs() as logged:
            for key in keys:
                host = f"192.0.2.{key}" if key < 256 else "2001:db8::1"
                handoff = Handoff(0, host, 1, key.to_bytes(4, "big"))
                if slot is not None:
                    handoff.slot = slot
                self.watch.deliver(handoff)
        return [formatEvent(event) for event in logged]


def test_everything_is_passed_on() -> None:
    """
    The watch is a destination that keeps nothing and changes nothing.
    """
    rig = Rig()
    assert verifyObject(IDestination, rig.watch)
    rig.come(range(100))
    assert [int.from_bytes(h.key, "big") for h in rig.destination.delivered] == list(range(100))


def test_more_than_half_is_told_with_the_way_out() -> None:
    """
    The line names the address, the share and the options to set; once it is enough.
    """
    rig = Rig()
    assert rig.come([7] * (ENOUGH - 1)) == []
    (line,) = rig.come([7])
    assert line.startswith("100% of the new connections have the affinity key of 192.0.2.7")
    assert "--trust" in line
    # Fault 11: an entry "ip" behind it would start them all at one worker again.
    assert line.endswith("--affinity cookie:stickyd")


def test_half_is_not_more_than_half() -> None:
    """
    Two clients who share the server evenly are no skew.
    """
    assert Rig().come([1, 2] * 5000) == []


@pytest.mark.parametrize("clients", range(3, 70))
def test_clients_who_take_turns_are_no_skew(clients: int) -> None:
    """
    The sample does not meet the same one of them each time.
    """
    assert Rig().come([number % clients for number in range(5000)]) == []


def test_it_is_noticed_among_many_others() -> None:
    """
    Three of five connections are one client's, the others' are all different.
    """
    keys = [7 if number % 5 < 3 else 1000 + number for number in range(3000)]
    (line,) = Rig().come(keys)
    assert "192.0.2.7" in line


def test_skew_that_begins_late_in_a_window_is_noticed() -> None:
    """
    After the first connections a sample counts on, and is compared with all of it.
    """
    rig = Rig()
    assert rig.come(range(ENOUGH)) == []
    assert len(rig.come([7] * (2 * ENOUGH * EVERY))) == 1


def test_it_is_told_once_in_a_while() -> None:
    """
    What stays as it is is told again only when the line before is old.
    """
    rig = Rig()
    assert len(rig.come([7] * 200)) == 1
    rig.clock.advance(WINDOW_SECONDS)
    assert rig.come([7] * 200) == []
    rig.clock.advance(QUIET_SECONDS)
    assert len(rig.come([7] * 200)) == 1


def test_a_window_forgets_the_one_before() -> None:
    """
    Few connections in each of many minutes never become enough.
    """
    rig = Rig()
    for _ in range(10):
        assert rig.come([7] * (ENOUGH - 1)) == []
        rig.clock.advance(WINDOW_SECONDS)


def test_nothing_is_to_be_spread_over_one_slot() -> None:
    """
    With one worker there is no advice to give.
    """
    assert Rig(slots=1).come([7] * 200) == []


def test_connections_that_another_key_places_do_not_count_for_their_address() -> None:
    """
    Clients with a signed cookie, and newcomers without a key, may all have one address.
    """
    assert Rig().come([7] * 200, slot=1) == []
    rig = Rig()
    with capturedLogs() as logged:
        for _ in range(200):
            rig.watch.deliver(Handoff(0, "192.0.2.7", 1, b""))
    assert not logged


@pytest.mark.parametrize("others", [MOST_KEYS, 100 * MOST_KEYS])
def test_counting_is_bounded(others: int) -> None:
    """
    However many clients there are, no more than so many keys are counted.
    """
    rig = Rig()
    rig.come(range(1000, 1000 + others))
    assert len(rig.watch._counts) <= MOST_KEYS


# what the workers tell


def reports(worker: Iterable[int]) -> Report:
    """
    What a worker tells of the clients that it has accepted.
    """
    tally = KeyCounts()
    for client in worker:
        tally.add(client.to_bytes(4, "big"), f"192.0.2.{client % 256}")
    report = tally.take()
    assert report is not None
    return report


def told(rig: Rig, *each: Report) -> list[str]:
    """
    Have workers tell.

    :return: what was logged.
    """
    with capturedLogs() as logged:
        for report in each:
            rig.watch.told(report)
    return [formatEvent(event) for event in logged]


def test_workers_together_tell_of_a_client_who_has_most() -> None:
    """
    More than half of all connections, not of one worker's: and the ways out are those that
    there are where the kernel steers.
    """
    rig = Rig()
    assert told(rig, reports([7] * 100), reports([1, 2, 3, 4] * 25)) == []
    (line,) = told(rig, *(reports([7] * 100) for _ in range(3)))
    assert line.startswith("75% of the new connections have the affinity key of 192.0.2.7, so")
    assert line.endswith(
        "; either takes --steering handoff, as the kernel sees no more than addresses"
    )
    assert told(rig, reports([7] * 200)) == []


def test_reports_of_few_connections_say_nothing() -> None:
    """
    So few as are needed to speak of shares are counted over all reports of a window.
    """
    rig = Rig()
    assert told(rig, *(reports([7]) for _ in range(ENOUGH - 1))) == []
    rig.clock.advance(WINDOW_SECONDS)
    assert told(rig, *(reports([7]) for _ in range(ENOUGH - 1))) == []
    assert len(told(rig, reports([7]))) == 1


def test_reports_of_clients_who_take_turns_are_no_skew() -> None:
    """
    Two who share the server evenly, or many of whom each report names a few.
    """
    assert told(Rig(), *(reports([1, 2] * 50) for _ in range(50))) == []
    assert told(Rig(), *(reports(range(2000)) for _ in range(50))) == []


@pytest.mark.parametrize("each", [100, 10_000])
def test_report_that_is_the_first_of_its_time_is_no_skew(each: int) -> None:
    """
    Of two who share the server evenly, each on a worker of its own, one is always told of
    before the other.
    """
    both = [reports([1] * each), reports([2] * each)]
    assert told(Rig(), *(both * 50)) == []


def asking(*counts: tuple[int, int], rest: int = 0) -> Report:
    """
    What a worker tells of its requests: of each client so many, and others.
    """
    busiest = tuple((c.to_bytes(4, "big"), f"192.0.2.{c}", n) for c, n in counts)
    return Report(0, (), sum(n for _, n in counts) + rest, busiest)


def test_proxy_that_keeps_its_connections_is_noticed() -> None:
    """
    It makes few connections, and most of the requests.
    """
    (line,) = told(Rig(), *[asking((7, 500)), asking(rest=100)] * 3)
    assert line.startswith("91% of the requests have the affinity key of 192.0.2.7, so one worker")
    assert "--trust" in line


def test_requests_that_are_no_skew() -> None:
    """
    Who tries the server out makes few; two clients share it evenly, whoever tells first.
    """
    assert told(Rig(), *[asking((7, 100))] * 6) == []
    assert told(Rig(), *[asking((7, 1000)), asking((8, 1000))] * 3) == []
    assert told(Rig(slots=1), *[asking((7, 1000))] * 6) == []


def test_report_of_requests_crosses() -> None:
    """
    It is read as it was written, and as one of before there were requests in it.
    """
    for report in (asking((7, 3), rest=2), Report(3, ((b"k", "h", 2),), 9, ((b"k", "h", 4),))):
        assert Report.from_json(report.to_json()) == report
    assert Report.from_json("[1, []]") == Report(1, ())
    for text in ('[1, [], "a", []]', "[1, [], 1, 5]", '[0, [], 1, [["00", 5, 1]]]', "[0, [], -1]"):
        with pytest.raises(ValueError):  # noqa: PT011 -- which is tried elsewhere
            Report.from_json(text)
