"""
Fails while it is imported, inside a library.
"""

from __future__ import annotations

import json

root = json.loads("no JSON")
