"""
Puts our bus and keys in the place of the SDK's own, for its tests.
"""
# mypy: disable-error-code="misc,assignment,method-assign,attr-defined"

from __future__ import annotations

from typing import Any

import pytest
from mcp.server import subscriptions
from mcp.server.mcpserver import server
from mcp.server.request_state import RequestStateSecurity

from stickyd.mcp import SubscriptionBus, request_state_security


def ephemeral(kind: type[RequestStateSecurity], /, **options: Any) -> RequestStateSecurity:
    """
    In the place of a key of one process: the fleet's.
    """
    return request_state_security(**options)


subscriptions.InMemorySubscriptionBus = server.InMemorySubscriptionBus = SubscriptionBus
RequestStateSecurity.ephemeral = classmethod(ephemeral)


@pytest.fixture
def anyio_backend() -> str:
    """
    The one that workers have.
    """
    return "asyncio"
