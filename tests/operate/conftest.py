"""
A reactor and a path for those who serve the control socket in a test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.channels import open_sockets
from tests.reactors import private_reactor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from twisted.internet.epollreactor import EPollReactor


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    """
    Every socket is closed when its test is over.
    """
    before = open_sockets()
    yield
    assert open_sockets() == before


@pytest.fixture
def reactor() -> Iterator[EPollReactor]:
    """
    A reactor of the test's own.
    """
    with private_reactor() as reactor:
        yield reactor


@pytest.fixture
def path(tmp_path: Path) -> str:
    """
    Where to listen.
    """
    return str(tmp_path / "control")
