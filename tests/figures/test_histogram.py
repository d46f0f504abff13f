"""
Quantiles of durations in buckets.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.figures.histogram import BOUNDS_SECONDS, BUCKETS, quantile


def test_nothing_has_no_quantile() -> None:
    """
    Where there was no request, none was quick.
    """
    assert quantile([0] * BUCKETS, 0.5) is None


def test_quantile_lies_where_prometheus_would_put_it() -> None:
    """
    Within a bucket durations are taken to be spread evenly.
    """
    buckets = [0] * BUCKETS
    buckets[5] = 10  # 0.075 to 0.1
    assert quantile(buckets, 0.5) == pytest.approx(0.0875)
    buckets[0] = 90
    assert quantile(buckets, 0.5) == pytest.approx(0.005 * 50 / 90)
    assert quantile(buckets, 0.99) == pytest.approx(0.0975)


@given(
    st.lists(st.integers(0, 1000), min_size=BUCKETS, max_size=BUCKETS),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_quantiles_keep_their_order(buckets: list[int], one: float, other: float) -> None:
    """
    A larger share takes no less time, and no quantile is beyond the last bound.
    """
    low, high = (quantile(buckets, share) for share in sorted((one, other)))
    if low is None or high is None:
        assert not sum(buckets)
    else:
        assert 0.0 <= low <= high <= BOUNDS_SECONDS[-1]
