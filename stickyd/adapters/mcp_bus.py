"""
The MCP Python SDK's subscriptions, over the bus.
"""

from __future__ import annotations

import json
import logging
import secrets
from typing import TYPE_CHECKING

import anyio.lowlevel
from mcp.server.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)

from stickyd import bus

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.subscriptions import ServerEvent

    from stickyd.bus import Message

    Listener = Callable[[ServerEvent], None]

_log = logging.getLogger("stickyd.mcp")

_KINDS: dict[str, type[ServerEvent]] = {
    kind.__name__: kind
    for kind in (PromptsListChanged, ResourcesListChanged, ResourceUpdated, ToolsListChanged)
}


class SubscriptionBus:
    """
    Has what one worker publishes reach the ``subscriptions/listen`` streams of all workers.

    Give it to ``MCPServer`` as ``subscriptions``, or to the ``ListenHandler`` of a low-level
    server.  Where no stickyd runs, it is that of the one process.
    """

    def __init__(self, channel: str = "mcp") -> None:
        """
        :param channel: servers with the same tell each other; an application with two of them
            gives each one of its own.
        """
        self._topic = f"stickyd.mcp.{channel}"
        self._origin = secrets.token_hex(8)
        # The same function may be there more than once.
        self._listeners: dict[object, Listener] = {}
        # Known before there are streams.
        bus.subscribe(self._topic, self._take)

    async def publish(self, event: ServerEvent) -> None:
        """
        Deliver an event to every listener, of whatever worker.
        """
        said = {"origin": self._origin, "kind": type(event).__name__, "event": vars(event)}
        bus.publish_json(self._topic, said)
        self._deliver(event)
        # As the SDK's own: streams have their turn between the events of a burst.
        await anyio.lowlevel.checkpoint()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """
        Have a function called with every event, in the event loop.

        :return: call it to unsubscribe; once more does nothing.
        """
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    def _take(self, message: Message) -> None:
        try:
            said = json.loads(message.data)
            if said["origin"] == self._origin:
                return
            event = _KINDS[said["kind"]](**said["event"])
        except (ValueError, KeyError, TypeError) as problem:
            _log.warning("what came on %s is no event: %r", message.channel, problem)
            return
        self._deliver(event)

    def _deliver(self, event: ServerEvent) -> None:
        for listener in list(self._listeners.values()):
            try:
                listener(event)
            except Exception:  # noqa: BLE001 (one listener's error is not the others')
                _log.exception("a listener has raised; the others get the event too")
