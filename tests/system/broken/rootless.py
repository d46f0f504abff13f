"""
An application that root must not run.
"""

from __future__ import annotations

import os

from twisted.web.resource import Resource

assert os.getuid() != 0, "imported by root"
root = Resource()
