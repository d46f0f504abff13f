"""
Loops, clients and a started host for these tests.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.hosting import (
    LOOPS,
    Visitors,
    a_loop,
)
from tests.serve.asgi.scene import NO_LIFESPAN, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=LOOPS)
def loop(request: Any) -> Iterator[asyncio.AbstractEventLoop]:
    """
    Run the test on each kind of loop.
    """
    with a_loop(request.param) as loop:
        yield loop


@pytest.fixture
def visitors() -> Iterator[Visitors]:
    """
    Clients that are closed in the end.
    """
    visitors = Visitors()
    yield visitors
    visitors.close()


@pytest.fixture
def scene(loop: asyncio.AbstractEventLoop, visitors: Visitors, request: Any) -> Iterator[Scene]:
    """
    The application in its host; ``indirect`` gives it options.
    """
    scene = Scene(loop, visitors, getattr(request, "param", NO_LIFESPAN))
    yield scene
    scene.end()
