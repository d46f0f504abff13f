"""
python-socketio's client manager for its server in threads, over the bus.
"""
# mypy: disable-error-code="misc"
# (python-socketio has no annotations of its own.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socketio.pubsub_manager import PubSubManager
from typing_extensions import override

from stickyd import bus
from stickyd.adapters.socketio_ids import ids_of_namespaces
from stickyd.adapters.socketio_wire import read, write
from stickyd.errors import BusFull

if TYPE_CHECKING:
    from collections.abc import Iterator


class ThreadedManager(PubSubManager):
    """
    Rooms, and who is in them, for all workers: see :class:`stickyd.socketio.Manager`.
    """

    name = "stickyd"

    def __init__(
        self,
        channel: str = "socketio",
        write_only: bool = False,
        logger: Any = None,
        json: Any = None,
    ) -> None:
        super().__init__(channel, write_only, logger, json)
        self._topic = f"stickyd.socketio.{channel}"
        self._messages: Any = None
        if not write_only:
            # Known to the primary before there are clients; heard from the first one on.
            bus.subscribe(self._topic, lambda message: None)

    @override
    def initialize(self) -> None:
        """
        Called before the first client is let in: it must miss nothing.
        """
        if not self.write_only:
            self._messages = bus.iterate(self._topic)
        super().initialize()

    @override
    def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        with ids_of_namespaces():
            sid: str | None = super().pre_connect(eio_sid, namespace)
        return sid

    @override
    def _publish(self, data: dict[str, Any]) -> None:
        written = write(data, self.json)
        while True:
            try:
                bus.publish(self._topic, written)
            except BusFull:
                bus.sync().wait()
            else:
                return

    @override
    def _listen(self) -> Iterator[dict[str, Any]]:
        for message in self._messages:
            try:
                yield read(message.data, self.json)
            except ValueError as problem:
                self._get_logger().warning(f"what came on {self._topic} is no message: {problem}")
        # The worker ends, and the thread that listens does so without a word.
        raise SystemExit
