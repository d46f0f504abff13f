"""
An MCP server.
"""

from tests.system.frameworks.mcp_app import app

__all__ = ["app"]
