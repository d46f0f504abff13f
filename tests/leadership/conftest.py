"""
A Redis for those who try the lease of all machines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sessions.redis_servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """
    A server.
    """
    with RedisServer(tmp_path_factory.mktemp("redis")) as made:
        yield made
