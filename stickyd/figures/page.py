"""
The page of figures that a worker writes and the primary reads: which number stands where.

It is a piece of memory that both have, :data:`PAGE_BYTES` long: unsigned numbers of 64 bits in
the machine's order, none of which ever goes back.  A worker counts where the primary can see it,
so what a worker had counted when it was killed is known to the last request, and nothing is sent
for that.
"""

from __future__ import annotations

from typing import Final

BEGUN: Final = 0
"""Requests that have begun."""
DURATION_NS: Final = 1
"""Nanoseconds that the requests with a whole response took together."""
HANDOFF: Final = 2
"""Connections that the primary has handed over, fresh from their clients."""
KERNEL: Final = 3
"""Connections that the worker has accepted by itself."""
REHOMED: Final = 4
"""Connections that another worker has given away."""
CPU_NS: Final = 5
"""Nanoseconds of CPU time, as of the last heartbeat."""
TOKENS_REFUSED: Final = 6
"""Tokens that were not signed by us."""
STORE_CALLS: Final = 7
"""Calls of a store of sessions outside of the process."""
OPENED: Final = 8
"""Connections that the worker has had open, those that are open among them."""
CLOSED: Final = 9
"""Connections that it has open no more."""

ANSWERS: Final = 16
"""Where the answers begin: one row for each class of status."""
ROW: Final = 16
"""How long a row is: :data:`BUCKETS` by duration, and then those without a duration."""
CLASSES: Final = ("aborted", "1xx", "2xx", "3xx", "4xx", "5xx")
"""The classes; the first is of requests without an answer."""
UNTIMED: Final = 15
"""Where in a row those stand whose duration means nothing, as the response was not whole."""

NUMBERS: Final = ANSWERS + ROW * len(CLASSES)
PAGE_BYTES: Final = 8 * NUMBERS

MOST_AT_ONCE: Final = 2**60
"""By how much a number may grow between two looks: more is no count of anything."""


def new_page() -> memoryview:
    """
    Make a page that nobody else has.
    """
    return memoryview(bytearray(PAGE_BYTES)).cast("Q")
