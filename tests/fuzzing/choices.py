"""
Bytes that decide.
"""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


class Choices:
    """
    What is chosen, byte by byte; always the first, once there are no bytes any more.
    """

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)

    def number(self, below: int) -> int:
        """
        Choose a number.
        """
        return next(self._bytes, 0) % below

    def one_of(self, values: tuple[T, ...] | list[T]) -> T:
        """
        Choose one of some.
        """
        return values[self.number(len(values))]
