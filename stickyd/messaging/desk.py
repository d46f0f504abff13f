"""
The bus as an application uses it; :mod:`stickyd.bus` is where it is imported from.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from stickyd.confirmation import Confirmation
from stickyd.errors import BusClosed, BusLimitError
from stickyd.messaging.frame import channel_name, payload_of
from stickyd.messaging.inbox import INBOX_MESSAGES, Inbox
from stickyd.messaging.iteration import Iteration
from stickyd.messaging.listening import Listening
from stickyd.messaging.message import Message
from stickyd.messaging.own_line import OwnLine
from stickyd.messaging.peer import MOST_CHANNELS
from stickyd.messaging.subscription import BusSubscription
from stickyd.messaging.where import called_here

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.messaging.interfaces import IBusLine
    from stickyd.messaging.subscription import Receive


class _Channel:
    """
    Those in this process who have subscribed to one channel.
    """

    __slots__ = ("name", "subscriptions")

    def __init__(self, name: str) -> None:
        self.name = name
        # Never changed, only replaced: whoever delivers goes on with what it has.
        self.subscriptions: tuple[BusSubscription, ...] = ()


class BusDesk:
    """
    Knows the subscribers of this process, and the way to all others if it is a worker.
    """

    _log = Logger()

    def __init__(self) -> None:
        # An unsubscription may come while one of this thread's is under way.
        self._lock = threading.RLock()
        self._channels: dict[bytes, _Channel] = {}
        self._inboxes: set[Inbox] = set()
        self._abandoned: deque[BusSubscription] = deque()
        self._line: IBusLine = OwnLine(self.deliver)
        self._in_worker = False
        self._closed = ""

    # what applications call, through stickyd.bus

    def publish(self, channel: str, data: bytes | bytearray | memoryview) -> None:
        name = channel_name(channel)
        payload = payload_of(data)
        if self._closed:
            raise BusClosed(self._closed)
        if self._abandoned:
            self._forget_abandoned()
        self._line.publish(name, payload)

    def publish_json(self, channel: str, value: Any) -> None:
        self.publish(channel, json.dumps(value, separators=(",", ":")).encode())

    def subscribe(self, channel: str, callback: Callable[[Message], object]) -> BusSubscription:
        return self._subscribe(channel, callback if self._in_worker else called_here(callback))

    def listen(self, channel: str, most_messages: int = INBOX_MESSAGES) -> Listening:
        inbox = Inbox(most_messages)
        return Listening(inbox, self._subscribe(channel, inbox.put, inbox))

    def iterate(
        self,
        channel: str,
        timeout_seconds: float | None = None,
        most_messages: int = INBOX_MESSAGES,
    ) -> Iteration:
        inbox = Inbox(most_messages)
        return Iteration(inbox, self._subscribe(channel, inbox.put, inbox), timeout_seconds)

    def sync(self) -> Confirmation:
        if self._abandoned:
            self._forget_abandoned()
        if self._closed:
            synced = Confirmation()
            synced.settle(BusClosed(self._closed))
            return synced
        return self._line.sync()

    # subscriptions

    def _subscribe(
        self, channel: str, receive: Receive, inbox: Inbox | None = None
    ) -> BusSubscription:
        name = channel_name(channel)
        if self._abandoned:
            self._forget_abandoned()

        def end(subscription: BusSubscription) -> None:
            self._unsubscribe(subscription, inbox)

        subscription = BusSubscription(name, receive, end, self._abandoned.append)
        with self._lock:
            if self._closed:
                raise BusClosed(self._closed)
            known = self._channels.get(name)
            if known is None:
                if len(self._channels) >= MOST_CHANNELS:
                    raise BusLimitError(
                        f"channel {channel!r}: this process has subscribed to {MOST_CHANNELS}"
                        " channels, which are the most; unsubscribe from those that are over"
                    )
                known = self._channels[name] = _Channel(channel)
                self._line.subscribe(name)
            known.subscriptions = (*known.subscriptions, subscription)
            if inbox is not None:
                self._inboxes.add(inbox)
        return subscription

    def _unsubscribe(self, subscription: BusSubscription, inbox: Inbox | None) -> None:
        with self._lock:
            if inbox is not None:
                self._inboxes.discard(inbox)
            known = self._channels.get(subscription.name)
            if known is None:
                return
            known.subscriptions = tuple(
                other for other in known.subscriptions if other is not subscription
            )
            if not known.subscriptions:
                del self._channels[subscription.name]
                if not self._closed:
                    self._line.unsubscribe(subscription.name)

    def _forget_abandoned(self) -> None:
        while True:
            try:
                subscription = self._abandoned.popleft()
            except IndexError:
                return
            subscription.end()

    def deliver(self, name: bytes, data: bytes) -> None:
        """
        Hand a message to those who have subscribed in this process.
        """
        known = self._channels.get(name)
        if known is None:
            return
        message = Message(known.name, data)
        for subscription in known.subscriptions:
            try:
                subscription.receive(message)
            except Exception:  # noqa: BLE001 (one subscriber's error is not the others')
                self._log.failure(
                    "A subscriber to {channel!r} on the bus failed",
                    event="bus.subscriber-failed",
                    channel=known.name,
                )

    # what a worker calls

    def open(self, line: IBusLine) -> None:
        """
        Called in a worker before the application is imported.

        :param line: the way to the primary.
        """
        self._line = line
        self._in_worker = True
        os.register_at_fork(after_in_child=self._leave_to_parent)

    def close(self, reason: str) -> None:
        """
        Let nobody publish or hear anything any more.

        :param reason: what whoever publishes later is told.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = reason
            self._channels.clear()
            inboxes, self._inboxes = self._inboxes, set()
        for inbox in inboxes:
            inbox.close()

    def _leave_to_parent(self) -> None:
        # Two processes that write to one stream would garble it.
        self._lock = threading.RLock()
        self._inboxes = set()
        self.close(
            "this process was forked by a stickyd worker, and only the worker itself is on the bus"
        )


#: The one of this process, as the reactor is: an application that is imported by name has
#: nothing of ours to hold on to.
desk = BusDesk()
