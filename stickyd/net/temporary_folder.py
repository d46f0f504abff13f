"""
Where temporary files go, for whoever has to say so.
"""

from __future__ import annotations

import tempfile


def temporary_folder() -> str:
    """
    Name the folder for temporary files; or say that there is none that can be written to.
    """
    try:
        return tempfile.gettempdir()
    except OSError:
        return "any folder (set TMPDIR to one that can be written to)"
