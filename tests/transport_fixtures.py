"""
The fixtures of the transport tests, a pytest plugin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.transport_harness import DRIVES, Drive, make_drive

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=DRIVES)
def drive(request: Any) -> Iterator[Drive]:
    """
    Run the test on each kind of loop.
    """
    drive = make_drive(request.param)
    yield drive
    drive.close()


@pytest.fixture(params=["tcp", "unix"])
def family(request: Any) -> str:
    """
    Run the test on each kind of socket.
    """
    return str(request.param)
