"""
Has attributes that are no resources.
"""

from __future__ import annotations

import sys

number = 5


def fails() -> None:
    """
    Raises instead of making a resource.
    """
    raise ValueError("not today")


def quits() -> None:
    """
    Ends the interpreter instead of making a resource.
    """
    sys.exit(7)


def strange() -> str:
    """
    Makes something that is no resource.
    """
    return "root"
