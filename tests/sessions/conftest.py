"""
What is logged, for these tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from twisted.logger import LogEvent, capturedLogs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@pytest.fixture
def logged() -> Iterator[Sequence[LogEvent]]:
    """
    What is logged.
    """
    with capturedLogs() as events:
        yield events
