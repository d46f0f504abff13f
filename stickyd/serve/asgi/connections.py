"""
The connections of an ASGI host, as uvicorn's protocols count them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from stickyd.serve.asgi.served_websocket import ServedWebSocket
from stickyd.serve.served_connection import IServedConnection

if TYPE_CHECKING:
    from stickyd.serve.open_connections import OpenConnections


class UvicornConnections(set[Any]):
    """
    What uvicorn's protocols add themselves to, and take themselves out of.

    Each is a connection of the host too; those that are not ours, WebSockets, are given the
    shape of one.
    """

    def __init__(self, open_connections: OpenConnections) -> None:
        super().__init__()
        self._open = open_connections
        self._served: dict[Any, Any] = {}

    @override
    def add(self, protocol: Any) -> None:
        super().add(protocol)
        if not IServedConnection.providedBy(protocol):
            self._served[protocol] = served = ServedWebSocket(protocol)
            self._open.add(served)
        else:
            self._open.add(protocol)

    @override
    def discard(self, protocol: Any) -> None:
        if protocol in self:
            self.remove(protocol)

    @override
    def remove(self, protocol: Any) -> None:
        super().remove(protocol)
        self._open.remove(self._served.pop(protocol, protocol))
