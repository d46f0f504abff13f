"""
The application's own metrics, of several workers that come and go.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.errors import ControlError
from stickyd.figures.app_figures import AppFigures, AppSeen, read_families

BOTH = {(("slot", "0"),): 3, (("slot", "1"),): 5}


def counter(value: float, *labels: tuple[str, str]) -> str:
    """
    What a worker tells of a counter.
    """
    return json.dumps([["hits", "counter", "Hits.", "all", [["hits_total", labels, value]]]])


def gauge(value: float, mode: str) -> str:
    """
    What a worker tells of a gauge.
    """
    return json.dumps([["load", "gauge", "Load.", mode, [["load", [], value]]]])


def samples(figures: AppFigures, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """
    What is shown of a metric, by labels.
    """
    for family, found in figures.families():
        if family.name == name:
            return {labels: value for (_, labels), value in found}
    return {}


def test_counters_keep_the_share_of_the_dead() -> None:
    """
    What a dead worker had counted stays, and its successor begins at 0; told twice, nothing
    counts twice.
    """
    figures = AppFigures()
    first, second, third = AppSeen(figures), AppSeen(figures), AppSeen(figures)
    first.hear(0, counter(5))
    first.hear(0, counter(5))
    second.hear(1, counter(2))
    first.hear(0, counter(8))
    first.end(0)
    third.hear(0, counter(1))
    assert samples(figures, "hits") == {(): 11}
    third.hear(0, counter(4, ("path", "/")))
    assert samples(figures, "hits") == {(): 11, (("path", "/"),): 4}
    third.hear(0, counter(0.5))
    assert samples(figures, "hits")[()] == 11.5  # it was reset in the worker


@pytest.mark.parametrize(
    ("mode", "alive", "one_dead"),
    [
        ("all", BOTH, BOTH),
        ("liveall", BOTH, {(("slot", "1"),): 5}),
        ("min", {(): 3}, {(): 3}),
        ("livemin", {(): 3}, {(): 5}),
        ("livemax", {(): 5}, {(): 5}),
        ("sum", {(): 8}, {(): 8}),
        ("livesum", {(): 8}, {(): 5}),
        ("mostrecent", {(): 5}, {(): 5}),
    ],
)  # fmt: skip
def test_gauges_are_one_as_their_mode_says(
    mode: str,
    alive: dict[tuple[tuple[str, str], ...], float],
    one_dead: dict[tuple[tuple[str, str], ...], float],
) -> None:
    """
    As in the package's own multiprocess mode, with the slot in the place of the process id.
    """
    figures = AppFigures()
    first, second = AppSeen(figures), AppSeen(figures)
    first.hear(0, gauge(3, mode))
    second.hear(1, gauge(5, mode))
    assert samples(figures, "load") == alive
    first.end(0)
    assert samples(figures, "load") == one_dead


def test_successor_has_the_gauges_of_its_slot() -> None:
    """
    From its first word on, whatever the worker that leaves says or when it dies.
    """
    figures = AppFigures()
    old, new = AppSeen(figures), AppSeen(figures)
    old.hear(0, gauge(3, "livesum"))
    new.hear(0, gauge(7, "livesum"))
    old.hear(0, gauge(4, "livesum"))
    old.end(0)
    assert samples(figures, "load") == {(): 7}


def test_ten_thousand_workers_are_one_share() -> None:
    """
    However many have told and died, what they have counted is there, and what is kept is of the
    size that one has.
    """
    figures = AppFigures()
    sizes = []
    for number in range(10_000):
        worker = AppSeen(figures)
        worker.hear(number % 2, counter(1))
        worker.hear(number % 2, gauge(7, "livesum"))
        worker.end(number % 2)
        sizes.append(len(json.dumps(figures.dump_state())))
    assert samples(figures, "hits") == {(): 10_000}
    assert samples(figures, "load") == {}
    assert sizes[-1] <= sizes[0] + len("0000")
    assert len(figures._tellers) == 2
    assert not any(figures._gauges["load"].values())


def test_sums_outlive_the_code_of_the_primary() -> None:
    """
    And a worker that goes on counts nothing twice.
    """
    figures = AppFigures()
    seen = AppSeen(figures)
    seen.hear(0, counter(5, ("path", "/")))
    heirs = AppFigures()
    heirs.restore_state(json.loads(json.dumps(figures.dump_state())))
    heir = AppSeen(heirs)
    heir.restore_state(json.loads(json.dumps(seen.dump_state())))
    heir.hear(0, counter(6, ("path", "/")))
    assert samples(heirs, "hits") == {(("path", "/"),): 6}


def test_metric_that_becomes_another_begins_anew() -> None:
    """
    A new version of the application may mean something else by a name; ours are not its.
    """
    figures = AppFigures()
    seen = AppSeen(figures)
    seen.hear(0, counter(5))
    seen.hear(0, json.dumps([["hits", "gauge", "", "sum", [["hits", [], 2]]]]))
    assert samples(figures, "hits") == {(): 2}
    seen.hear(0, json.dumps([["stickyd_x", "gauge", "", "sum", [["stickyd_x", [], 2]]]]))
    assert samples(figures, "stickyd_x") == {}


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "[[]]", "[" * 9000, '[["a b","counter","","all",[]]]',
     '[["a","what","","all",[]]]', '[["a","gauge","","some",[]]]',
     '[["a","gauge","","all",[["a",[],"1"]]]]', '[["a","gauge","","all",[["a",[],NaN]]]]',
     '[["a","gauge","","all",[["a",[["x",1]],1]]]]', '[["a","gauge","","all",[["a",[],true]]]]',
     '[["a","gauge","","all",[["a",[],1e999]]]]', '[["a",[],"","all",[]]]',
     '[["a","gauge","","all",[["",[],1]]]]', '[["a","gauge",7,"all",[]]]'],
)  # fmt: skip
def test_what_is_no_metric_is_refused(text: str) -> None:
    """
    A worker may be anything by now.
    """
    with pytest.raises(ControlError):
        list(read_families(text))


@given(st.text(max_size=200))
def test_no_text_does_harm(text: str) -> None:
    """
    It is read, or refused.
    """
    try:
        AppSeen(AppFigures()).hear(0, text)
    except ControlError:
        pass
