"""
Numbers of things, for people.
"""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """
    Say how many there are: ``1 slot``, ``3 slots``.
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
