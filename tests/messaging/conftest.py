"""
What the tests of the bus are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.messaging.fleet import Bus

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bus(nothing_leaks: None) -> Iterator[Bus]:
    """
    A bus with three workers.
    """
    made = Bus(3)
    yield made
    made.close()
