"""
The shop for Django Channels.
"""

from __future__ import annotations

from tests.system.printed.shop.main import app as application

__all__ = ["application"]
