"""
An MCP server whose sessions live in one worker's memory.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any

from mcp.server.mcpserver import Context, MCPServer

from tests.system.apps import own_slot

server = MCPServer("words")

_said: Counter[str] = Counter()


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


@server.tool()
async def say(word: str, ctx: Context) -> dict[str, Any]:
    """
    Say a word again, and how many were said in this session.
    """
    identifier = (ctx.headers or {})["mcp-session-id"]
    _said[identifier] += 1
    return {"word": word, "count": _said[identifier], "pid": os.getpid()}


app = server.streamable_http_app()

#: Answers with plain responses, after which a connection is used again; the client of the SDK
#: breaks off streams, and their connections, when it has its answer.
json_app = server.streamable_http_app(json_response=True)
