"""
Imports well, except in the workers of the slots that the environment names: there it
ends the process.
"""

from __future__ import annotations

import os

from tests.system.apps import Mirror, own_slot

if str(own_slot()) in os.environ["STICKYD_TEST_CRASHING"].split():
    os._exit(3)

root = Mirror()
