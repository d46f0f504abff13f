"""
What a server of the MCP Python SDK may import.
"""

from __future__ import annotations

from stickyd.adapters.mcp_bus import SubscriptionBus as SubscriptionBus
from stickyd.adapters.mcp_state import request_state_security as request_state_security
