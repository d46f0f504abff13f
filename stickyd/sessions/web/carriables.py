"""
The components of a session that go along with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.sessions.interfaces import ICarriable
from stickyd.sessions.plain import encode

if TYPE_CHECKING:
    from collections.abc import MutableMapping

KEY = "stickyd.components"
"""
Under which what they are made of stands in the session's data, by the names of their interfaces.
"""


class Carriables:
    """
    Puts components into the data of a session, and makes them what they were.
    """

    def __init__(self) -> None:
        self._components: dict[str, ICarriable] = {}

    def __bool__(self) -> bool:
        return bool(self._components)

    def add(self, name: str, component: Any, data: MutableMapping[str, Any]) -> bool:
        """
        Take care of a component, if it can be carried.

        :param name: of the interface that it is found by.
        :param data: the session's.
        :return: whether it can.
        """
        carriable: Any = ICarriable(component, None)
        if carriable is None:
            return False
        self._components[name] = carriable
        stored = data.get(KEY, {})
        if name in stored:
            carriable.from_plain(stored[name])
        return True

    def dump(self, data: MutableMapping[str, Any]) -> None:
        """
        Write all of them into the data of the session, if they have changed.

        :raise stickyd.errors.NotCarriable: one is not made of plain data.
        :raise stickyd.errors.SessionTooLarge: they are too large.
        """
        before = data.get(KEY, {})
        now = {**before, **{name: each.to_plain() for name, each in self._components.items()}}
        if encode(now) != encode(before):
            data[KEY] = now
