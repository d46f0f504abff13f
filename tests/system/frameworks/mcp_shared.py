"""
An MCP server whose workers tell each other what has changed, and open what another has sealed.
"""

from __future__ import annotations

from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult

import stickyd.mcp
from tests.system.apps import own_slot

server = MCPServer(
    "notes",
    subscriptions=stickyd.mcp.SubscriptionBus(),
    request_state_security=stickyd.mcp.request_state_security(),
)

CONFIRM = ElicitRequest(
    params=ElicitRequestFormParams(
        message="Sure?",
        requested_schema={"type": "object", "properties": {"sure": {"type": "boolean"}}},
    )
)


@server.tool()
async def change(ctx: Context) -> int:
    """
    Say that a note has changed.
    """
    await ctx.notify_resource_updated("note://one")
    return own_slot()


@server.tool()
async def remove(name: str, ctx: Context) -> str | InputRequiredResult:
    """
    Ask first; tell which workers have asked and acted.
    """
    if ctx.input_responses is None:
        return InputRequiredResult(
            input_requests={"sure": CONFIRM}, request_state=f"{name} {own_slot()}"
        )
    answer = ctx.input_responses["sure"]
    assert isinstance(answer, ElicitResult)
    return f"{ctx.request_state} {own_slot()} {answer.action}"


app = server.streamable_http_app(json_response=True)
