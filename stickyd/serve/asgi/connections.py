"""
The connections of an ASGI host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable


class OpenConnections(set[Any]):
    """
    The connections that uvicorn's protocols count, which tells when it may have become
    empty.  A WebSocket leaves it as HTTP and enters it anew: look again a turn later.
    """

    def __init__(self, emptied: Callable[[], object]) -> None:
        super().__init__()
        self._emptied = emptied

    @override
    def discard(self, connection: Any) -> None:
        super().discard(connection)
        if not self:
            self._emptied()

    @override
    def remove(self, connection: Any) -> None:
        super().remove(connection)
        if not self:
            self._emptied()
