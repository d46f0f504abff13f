"""
Messages to all workers of the application: publish and subscribe.

A channel is any text of up to 255 bytes in UTF-8, and exists as long as somebody has subscribed
to it.  A message is up to 4 MiB of bytes.  Whoever has subscribed gets each message at most once,
and those of one publisher (a thread of one worker) in the order in which they were published;
the worker that publishes gets it too, if it has subscribed.

Every function may be called from every thread, also while the application is imported, and where
no stickyd worker runs: in a test, or under another server, the bus is that of the one process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.messaging.desk import desk as _desk
from stickyd.messaging.inbox import INBOX_MESSAGES
from stickyd.messaging.message import Message as Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.confirmation import Confirmation
    from stickyd.messaging.iteration import Iteration
    from stickyd.messaging.listening import Listening
    from stickyd.messaging.subscription import BusSubscription


def publish(channel: str, data: bytes | bytearray | memoryview) -> None:
    """
    Send a message to everybody who has subscribed to a channel, in whatever worker.

    It never waits.  The subscribers of this worker are called in a later turn of its loop.  Where
    no worker runs, those that live in this thread have been called when it returns.

    :raises stickyd.errors.BusLimitError: if the channel's name or the message is too long.
    :raises stickyd.errors.BusFull: if too many messages wait to be sent; nobody gets this one.
        Whoever publishes very many awaits :func:`sync` in between.
    :raises stickyd.errors.BusClosed: if the worker has ended, or was excluded from the bus.
    """
    _desk.publish(channel, data)


def publish_json(channel: str, value: Any) -> None:
    """
    Publish a value as JSON; :meth:`Message.json` reads it.

    :raises TypeError: if JSON cannot write it.  Else as :func:`publish`.
    """
    _desk.publish_json(channel, value)


def subscribe(channel: str, callback: Callable[[Message], object]) -> BusSubscription:
    """
    Have a function called with each message of a channel from now on.

    In a worker it is called in the thread of its loop, and must not block.  Elsewhere it is
    called in the asyncio loop that runs in this thread, or else in Twisted's reactor if that
    runs, or else in the thread that publishes.  What it raises is logged.

    :return: call it to unsubscribe.
    :raises stickyd.errors.BusLimitError: if the channel's name is too long, or this process has
        subscribed to too many channels.
    :raises stickyd.errors.BusClosed: if the worker has ended, or was excluded from the bus.
    """
    return _desk.subscribe(channel, callback)


def listen(channel: str, most_messages: int = INBOX_MESSAGES) -> Listening:
    """
    Iterate over the messages of a channel from now on, in a coroutine of asyncio's, in whatever
    loop, or of Twisted's: ``async for message in bus.listen("news")``.

    :param most_messages: how many may wait at a time; what comes beyond that is lost to this
        one, counted in its ``lost``, and logged.
    :return: it unsubscribes by ``aclose()``, at the end of ``async with``, and when nobody holds
        it any more, as after a ``break``.  It ends when the bus closes.
    :raises stickyd.errors.BusError: as :func:`subscribe`.
    """
    return _desk.listen(channel, most_messages)


def iterate(
    channel: str, timeout_seconds: float | None = None, most_messages: int = INBOX_MESSAGES
) -> Iteration:
    """
    Iterate over the messages of a channel from now on, in a thread that may wait, such as a WSGI
    application's: ``for message in bus.iterate("news", timeout_seconds=15)``.

    :param timeout_seconds: gives :obj:`None` after so long without a message, so that a stream
        can send a sign of life, and notice that its client has gone.
    :param most_messages: as that of :func:`listen`.
    :return: it has ``get(timeout_seconds)`` too, and ``close()``, which any thread may call.  It
        ends when the bus closes.
    :raises stickyd.errors.BusError: as :func:`subscribe`.
    """
    return _desk.iterate(channel, timeout_seconds, most_messages)


def sync() -> Confirmation:
    """
    Ask to be told when all workers can hear what was said here so far: what was published is
    with the primary, and what others publish from then on reaches what was subscribed.

    :return: ``await`` it in a coroutine of asyncio's or Twisted's, or call its ``wait()`` in a
        thread.
    """
    return _desk.sync()
