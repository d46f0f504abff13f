"""
Attributes that are made when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Lazy:
    """
    Makes an attribute at its first use; from then on it is an ordinary one.

    Not :class:`functools.cached_property`, which takes a lock up to Python 3.11.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        """
        Learn under which name to keep the value.
        """
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        """
        Make the value, and put it where it is found before this descriptor.
        """
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._make(instance)
        return value
