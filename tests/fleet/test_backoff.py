"""
How long the next start is put off.
"""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from stickyd.fleet.backoff import Backoff

SECONDS = st.floats(0.01, 1e6)
JITTER = st.floats(0, 1, exclude_max=True)


@given(SECONDS, SECONDS, JITTER)
def test_no_failure_costs_no_delay(first: float, longest: float, jitter: float) -> None:
    """
    Without a failure in the row, the next worker is started at once.
    """
    backoff = Backoff(first, longest, lambda: jitter)
    assert backoff.delay(0) == 0.0


@given(SECONDS, SECONDS, JITTER, st.integers(1, 200))
def test_delay_lies_between_half_and_all_of_its_ceiling(
    first: float, longest: float, jitter: float, failures: int
) -> None:
    """
    Whatever the jitter, the delay is at least half of the doubled first delay or of the
    cap, whichever is less, and at most all of it.
    """
    ceiling = float(min(Fraction(longest), Fraction(first) * 2 ** (failures - 1)))
    delay = Backoff(first, longest, lambda: jitter).delay(failures)
    assert ceiling / 2 <= delay <= ceiling


@given(SECONDS, SECONDS, JITTER, st.integers(1, 200))
def test_delay_never_shrinks_with_the_failures(
    first: float, longest: float, jitter: float, failures: int
) -> None:
    """
    With the same jitter, one failure more means at least the same delay.
    """
    backoff = Backoff(first, longest, lambda: jitter)
    assert backoff.delay(failures) <= backoff.delay(failures + 1)


def test_delay_doubles_up_to_the_cap() -> None:
    """
    Each failure doubles the delay until the cap is reached, and there it stays.
    """
    backoff = Backoff(0.25, 3.0, lambda: 1.0)
    assert [backoff.delay(failures) for failures in range(1, 8)] == [
        0.25,
        0.5,
        1.0,
        2.0,
        3.0,
        3.0,
        3.0,
    ]


def test_jitter_spreads_over_the_upper_half() -> None:
    """
    The number drawn moves the delay linearly between half and all of the ceiling.
    """
    drawn = iter([0.0, 0.5, 1.0])
    backoff = Backoff(4.0, 100.0, lambda: next(drawn))
    assert [backoff.delay(1) for _ in range(3)] == [2.0, 3.0, 4.0]


@given(st.integers(1, 10**40))
def test_huge_counts_do_not_overflow(failures: int) -> None:
    """
    A worker that has been failing for years is still waited for with the cap.
    """
    assert Backoff(0.01, 1e6, lambda: 1.0).delay(failures + 100) == 1e6
