"""
What the operator decided: every setting, frozen and checked.

:class:`Settings` is what an embedding program imports; the table stands in
:mod:`stickyd.settings.table`.
"""

from stickyd.settings.reload import FIXED
from stickyd.settings.settings import Settings

__all__ = ["FIXED", "Settings"]
