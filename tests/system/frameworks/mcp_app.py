"""
An MCP server whose sessions live in one worker's memory.
"""

from __future__ import annotations

import asyncio

from mcp.server.mcpserver import Context, MCPServer

from tests.system.apps import own_slot

server = MCPServer("words")


@server.tool()
async def where() -> int:
    """
    Tell the slot of the worker.
    """
    return own_slot()


@server.tool()
async def steps(count: int, ctx: Context) -> int:
    """
    Report progress, which makes the answer a stream of several events.
    """
    for step in range(count):
        await ctx.report_progress(step + 1, count)
        await asyncio.sleep(0)
    return own_slot()


app = server.streamable_http_app()
