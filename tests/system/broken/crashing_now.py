"""
Imports well, except in workers as long as the file is there that the environment names: they
end.
"""

from __future__ import annotations

import os
import sys

from tests.system.apps import Mirror

if "--slot" in sys.argv and os.path.exists(os.environ["STICKYD_TEST_CRASHES"]):
    os._exit(3)

root = Mirror()
