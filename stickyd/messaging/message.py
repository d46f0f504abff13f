"""
A message, as whoever has subscribed gets it.
"""

from __future__ import annotations

import json
from typing import Any


class Message:
    """
    What was published; everybody in this process who has subscribed gets the same object.

    :ivar channel: where.
    :ivar data: what.
    """

    __slots__ = ("channel", "data")

    def __init__(self, channel: str, data: bytes) -> None:
        self.channel = channel
        self.data = data

    def json(self) -> Any:
        """
        The data, if it is JSON.

        :raises ValueError: if it is not.
        """
        return json.loads(self.data)

    def __repr__(self) -> str:
        return f"Message({self.channel!r}, {self.data!r})"
