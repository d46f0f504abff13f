"""
A spawner and a worker, for these tests.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.channels import open_sockets
from tests.fleet.process.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """
    A worker that was just started; no socket is left when the test is over.
    """
    before = open_sockets()
    rig = Rig()
    yield rig
    rig.close()
    assert open_sockets() == before


@pytest.fixture
def failing() -> Iterator[Rig]:
    """
    A rig whose next worker can be made to fail; no socket is left.
    """
    before = open_sockets()
    rig = Rig()
    rig.close()
    rig.reactor.handoffs = None
    for call in rig.reactor.getDelayedCalls():
        call.cancel()
    yield rig
    rig.close()
    assert open_sockets() == before
