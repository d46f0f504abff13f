"""
Messages in a plain ``for``, in a thread.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from twisted.python.threadable import isInIOThread

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from stickyd.messaging.inbox import Inbox
    from stickyd.messaging.message import Message
    from stickyd.messaging.subscription import BusSubscription


class Iteration:
    """
    A blocking iterator over what is published to a channel since it was made.

    It ends when the bus closes.  It unsubscribes at the end of a ``with``, by :meth:`close`,
    or when nobody holds it any more.
    """

    def __init__(
        self, inbox: Inbox, subscription: BusSubscription, timeout_seconds: float | None
    ) -> None:
        """
        :param subscription: fills the inbox, and does not hold us.
        :param timeout_seconds: gives :obj:`None` after so long without a message.
        """
        self._inbox = inbox
        self._subscription = subscription
        self._timeout_seconds = timeout_seconds

    @property
    def lost(self) -> int:
        """
        How many messages it has missed, as too many waited.
        """
        return self._inbox.lost

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message | None:
        message = self.get(self._timeout_seconds)
        if message is None and self._inbox.closed:
            raise StopIteration
        return message

    def get(self, timeout_seconds: float | None = None) -> Message | None:
        """
        Wait for one message.

        :return: :obj:`None` if none has come by then, or none will come.
        :raises RuntimeError: in the reactor's thread, where waiting would stop the worker.
        """
        inbox = self._inbox
        message = inbox.take()
        if message is not None or timeout_seconds == 0:
            return message
        if isInIOThread():
            raise RuntimeError(
                "this would stop the worker until a message comes: use `async for message in"
                " bus.listen(channel)`"
            )
        filled = threading.Event()
        if inbox.wait(filled.set):
            filled.wait(timeout_seconds)
        return inbox.take()

    def close(self) -> None:
        """
        Unsubscribe, and end the iteration; from any thread.
        """
        self._subscription()
        self._inbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._subscription.abandon()
