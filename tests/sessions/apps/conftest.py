"""
What the tests of applications' sessions share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosting import a_loop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """
    A loop that runs when it is told to.
    """
    with a_loop() as made:
        yield made
