"""
Durations in buckets, and what can be read off them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUNDS_SECONDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
"""
The upper bounds of the buckets, as OpenTelemetry advises for HTTP (semantic conventions,
``http.server.request.duration``); one more bucket has what took longer.
"""

BUCKETS: Final = len(BOUNDS_SECONDS) + 1


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """
    Give the duration that so large a share of all stays below.

    Within a bucket they are taken to be spread evenly, as Prometheus does; what is longer than
    the last bound counts as that.

    :param buckets: how many there are in each, :data:`BUCKETS` of them.
    :param share: 0.99 for the 99th percentile.
    :return: seconds; None if there are none.
    """
    total = sum(buckets)
    if not total:
        return None
    rank = share * total
    below = 0
    for count, (lower, upper) in zip(buckets, pairwise((0.0, *BOUNDS_SECONDS)), strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * max(0.0, rank - below) / count
        below += count
    return BOUNDS_SECONDS[-1]
