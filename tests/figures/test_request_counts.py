"""
Requests are counted once, whatever became of them.
"""

from __future__ import annotations

from time import perf_counter_ns

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.figures.histogram import BOUNDS_SECONDS
from stickyd.figures.page import ANSWERS, DURATION_NS, ROW
from stickyd.figures.request_counts import RequestCounts, in_flight
from stickyd.figures.slot_figures import answered, by_class, durations


@pytest.mark.parametrize(
    ("status", "name"),
    [(101, "1xx"), (200, "2xx"), (299, "2xx"), (304, "3xx"), (404, "4xx"), (599, "5xx"),
     (600, "5xx"), (99, "5xx"), (-200, "5xx"), (12345, "5xx")],
)  # fmt: skip
def test_response_counts_in_its_class(status: int, name: str) -> None:
    """
    A status that no class has counts as a failure: no client takes it for anything else.
    """
    counts = RequestCounts()
    counts.end(status, counts.begin())
    assert {kind: count for kind, count in by_class(counts.page).items() if count} == {name: 1}
    assert in_flight(counts.page) == 0


@pytest.mark.parametrize("bucket", range(len(BOUNDS_SECONDS) + 1))
def test_duration_finds_its_bucket(bucket: int) -> None:
    """
    A bucket has what took as long as its bound, and what took longer than the one before.
    """
    longest = (*BOUNDS_SECONDS, 1000.0)[bucket]
    counts = RequestCounts()
    counts.end(200, perf_counter_ns() - int(longest * 1e9) + 1_000_000)
    assert durations(counts.page)[bucket] == 1
    assert counts.page[DURATION_NS] >= int(longest * 1e9) - 1_000_000


@given(st.lists(st.sampled_from(["begin", "end", "drop", "refuse", "drop late"]), max_size=50))
def test_every_request_ends_once(acts: list[str]) -> None:
    """
    What has begun is under way or has ended, whatever happens in whatever order.
    """
    counts = RequestCounts()
    under_way: list[int] = []
    begun = 0
    for act in acts:
        if act == "refuse":
            counts.refuse(400)
            begun += 1
        elif act == "begin":
            under_way.append(counts.begin())
            begun += 1
        elif under_way:
            moment = under_way.pop()
            if act == "end":
                counts.end(200, moment)
            else:
                counts.drop(200 if act == "drop late" else 0)
        assert in_flight(counts.page) == len(under_way)
        assert answered(counts.page) == begun - len(under_way)


def test_response_that_is_not_whole_has_no_duration() -> None:
    """
    A client that leaves in the middle of a stream says nothing of how quick we are.
    """
    counts = RequestCounts()
    counts.begin()
    counts.drop(200)
    counts.begin()
    counts.drop(0)
    assert not any(durations(counts.page))
    assert by_class(counts.page)["2xx"] == by_class(counts.page)["aborted"] == 1
    assert len(counts.page) == ANSWERS + 6 * ROW
