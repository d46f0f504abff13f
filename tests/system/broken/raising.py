"""
Fails while it is imported.
"""

from __future__ import annotations

root = 1 / 0
