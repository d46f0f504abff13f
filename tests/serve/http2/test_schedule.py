"""
Whose turn it is to send.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.serve.http2.schedule import Schedule, priority_of


@pytest.mark.parametrize(
    ("field", "priority"),
    [
        (None, (3, True)),
        (b"", (3, False)),
        (b"u=0", (0, False)),
        (b"u=7, i", (7, True)),
        (b"i,u=1", (1, True)),
        (b"i=?0, u=2", (2, False)),
        (b"i=?1", (3, True)),
        (b"u=2;x=1, i;y", (2, True)),
        (b"u=8", (3, False)),
        (b"u=-1", (3, False)),
        (b"u=10", (3, False)),
        (b"xu=1", (3, False)),
        (b"rubbish", (3, False)),
    ],
)
def test_priority_of(field: bytes | None, priority: tuple[int, bool]) -> None:
    """
    RFC 9218, sections 4 and 5: what is not understood is as if it were not there.
    """
    assert priority_of(field) == priority


def turns(schedule: Schedule, count: int) -> list[int | None]:
    """
    The next ones.
    """
    return [schedule.next() for _ in range(count)]


def schedule_of(**streams: tuple[int, bool]) -> Schedule:
    """
    Streams that are all ready.
    """
    schedule = Schedule()
    for name, priority in streams.items():
        schedule.add(int(name[1:]), priority)
        schedule.ready(int(name[1:]))
    return schedule


def test_urgent_ones_come_first() -> None:
    """
    Whatever the order in which they came.
    """
    schedule = schedule_of(s1=(5, False), s3=(0, False), s5=(3, True))
    assert turns(schedule, 2) == [3, 3]
    schedule.block(3)
    assert turns(schedule, 2) == [5, 5]
    schedule.remove(5)
    assert schedule.next() == 1
    schedule.ready(3)
    assert schedule.next() == 3


def test_equals_in_parts_take_turns() -> None:
    """
    And others go on until they are done.
    """
    schedule = schedule_of(s1=(3, True), s3=(3, True), s5=(3, True))
    assert turns(schedule, 6) == [1, 3, 5, 1, 3, 5]
    schedule = schedule_of(s1=(3, False), s3=(3, False))
    assert turns(schedule, 3) == [1, 1, 1]
    schedule.remove(1)
    assert schedule.next() == 3


def test_nobody_is_ready() -> None:
    """
    Then it is nobody's turn.
    """
    schedule = Schedule()
    schedule.add(1, (3, True))
    assert schedule.next() is None
    schedule.ready(1)
    schedule.ready(1)
    schedule.remove(1)
    assert schedule.next() is None


@given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=1, max_size=8))
def test_every_ready_stream_gets_its_turn(priorities: list[tuple[int, bool]]) -> None:
    """
    If each has as much to send as three frames, all are done after three times as many.
    """
    schedule = Schedule()
    left = {}
    for number, priority in enumerate(priorities):
        schedule.add(number, priority)
        schedule.ready(number)
        left[number] = 3
    urgencies = []
    while (number_or_none := schedule.next()) is not None:
        number = number_or_none
        urgencies.append(priorities[number][0])
        left[number] -= 1
        if not left[number]:
            schedule.remove(number)
    assert set(left.values()) == {0}
    assert urgencies == sorted(urgencies)
