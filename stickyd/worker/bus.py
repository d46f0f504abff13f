"""
The bus in a worker, from before the application is imported to the end.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from stickyd.control.commands import BUS_DESCRIPTOR
from stickyd.messaging.desk import desk
from stickyd.messaging.worker_line import WorkerLine
from stickyd.net.readiness import readiness_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that the last messages of a worker may take to reach the primary.
LAST_SECONDS = 2.0

ENDED = "this worker has ended"


def inherited_bus() -> socket.socket | None:
    """
    Our end of the bus; asked for before anything else can have got its number.

    :return: non-blocking; the caller closes it.  :obj:`None` if the primary was started when
        there was no bus: its code was replaced on the disk, and it goes on with the former.
    """
    try:
        is_socket = stat.S_ISSOCK(os.fstat(BUS_DESCRIPTOR).st_mode)
    except OSError:
        return None
    if not is_socket:
        return None
    bus = socket.socket(fileno=BUS_DESCRIPTOR)
    bus.setblocking(False)
    return bus


def join_bus(reactor: Any, sock: socket.socket | None) -> Callable[[], Deferred[None]]:
    """
    Have what the application publishes and subscribes to go by the primary.

    :param sock: what :func:`inherited_bus` gave; closed with the bus.
    :return: to be called when nothing of the application runs any more; fires when the primary
        has its last messages, or cannot be told.
    """
    if sock is None:
        desk.close("the primary is of a version without a bus: upgrade or restart it")
        return lambda: Deferred.fromCoroutine(_nothing())
    readiness = readiness_of(reactor)
    soon = getattr(readiness, "call_soon_threadsafe", reactor.callFromThread)
    line = WorkerLine(readiness, soon, sock, desk.deliver, desk.close)
    desk.open(line)

    async def leave() -> None:
        told = line.sync().deferred().addTimeout(LAST_SECONDS, reactor)
        await told.addErrback(lambda _: None)
        desk.close(ENDED)
        line.close(ENDED)

    return lambda: Deferred.fromCoroutine(leave())


async def _nothing() -> None:
    pass
