"""
Needs a module that is not there.
"""

from __future__ import annotations

import no_such_dependency  # type: ignore[import-not-found]  # that is what it is for

root = no_such_dependency.root
