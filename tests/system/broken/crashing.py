"""
Imports well, except in the workers of the slots that the environment names: there it
ends the process.
"""

from __future__ import annotations

import os

from tests.system.apps import Mirror, own_slot

if str(own_slot()) in os.environ["STICKYD_TEST_CRASHING"].split():
    print("no table named visits", flush=True)  # noqa: T201 - read from the server's log
    os._exit(3)

root = Mirror()
