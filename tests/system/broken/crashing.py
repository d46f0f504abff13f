"""
Imports well, except in the worker of slot 1, where it ends the process.
"""

from __future__ import annotations

import os

from tests.system.apps import Mirror, own_slot

if own_slot() == 1:
    os._exit(3)

root = Mirror()
