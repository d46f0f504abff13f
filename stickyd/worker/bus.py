"""
The bus in a worker, from before the application is imported to the end.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from stickyd.control.commands import BUS_DESCRIPTOR
from stickyd.errors import SettingError
from stickyd.messaging.desk import desk
from stickyd.messaging.shared_line import SharedLine
from stickyd.messaging.worker_line import WorkerLine
from stickyd.net.readiness import readiness_of
from stickyd.settings.bus_url import read_bus_url

if TYPE_CHECKING:
    from stickyd.messaging.redis_way import RedisWay
    from stickyd.redis.url import RedisAddress
    from stickyd.settings import Settings

#: Seconds that the last messages of a worker may take to reach the primary.
LAST_SECONDS = 2.0

#: Seconds that a worker waits, before it serves, until it hears other machines.
_HEARING_SECONDS = 3.0

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


class WorkerBus:
    """
    Has what the application publishes and subscribes to go by the primary, and by Redis if the
    settings say so.
    """

    def __init__(self, reactor: Any, sock: socket.socket | None, settings: Settings) -> None:
        """
        :param sock: what :func:`inherited_bus` gave; closed with the bus.
        :raises SettingError: if there is no such way between machines.
        """
        self._reactor = reactor
        self._line: WorkerLine | None = None
        self._way: RedisWay | None = None
        if sock is None:
            desk.close("the primary is of a version without a bus: upgrade or restart it")
            return
        readiness = readiness_of(reactor)
        soon = getattr(readiness, "call_soon_threadsafe", reactor.callFromThread)
        line = WorkerLine(readiness, soon, sock, desk.deliver, desk.close, self._greeted)
        self._line = line
        address = read_bus_url(settings.bus)
        if address is None:
            desk.open(line)
        else:
            self._way = _way(readiness, address, line)
            desk.open(SharedLine(line, self._way))

    def _greeted(self, fleet: bytes) -> None:
        if self._way is not None:
            self._way.start(fleet)

    def ready(self) -> Deferred[None]:
        """
        Wait until other machines are heard, or are known not to be for now.
        """
        if self._way is None:
            return succeed(None)
        heard = self._way.ready().deferred().addTimeout(_HEARING_SECONDS, self._reactor)
        return heard.addErrback(lambda _: None)

    def leave(self) -> Deferred[None]:
        """
        End, when nothing of the application runs any more.

        :return: fires when all others have our last messages, or cannot be told.
        """
        return Deferred.fromCoroutine(self._leave())

    async def _leave(self) -> None:
        if self._line is None:
            return
        told = desk.sync().deferred().addTimeout(LAST_SECONDS, self._reactor)
        await told.addErrback(lambda _: None)
        desk.close(ENDED)
        if self._way is not None:
            loop: Any = readiness_of(self._reactor)
            await Deferred.fromFuture(loop.create_task(self._way.close()))
        self._line.close(ENDED)


def _way(loop: Any, address: RedisAddress, line: WorkerLine) -> RedisWay:
    try:
        from stickyd.messaging.redis_way import RedisWay
    except ModuleNotFoundError as problem:
        raise missing(address, problem) from None
    return RedisWay(loop, address, desk.deliver, line.tell_lost)


def missing(address: RedisAddress, problem: ModuleNotFoundError) -> Exception:
    """
    The error to raise when redis-py cannot be imported, or ``problem`` if it is something else.
    """
    if (problem.name or "").partition(".")[0] != "redis":
        return problem
    return SettingError(
        f"--bus {address}: Redis or Valkey need redis-py, which is not installed:"
        " pip install 'stickyd[redis]'"
    )


async def check_bus(settings: Settings) -> None:
    """
    Look whether the bus can go between machines as the settings say.

    :raises SettingError: if it cannot.
    """
    address = read_bus_url(settings.bus)
    if address is None:
        return
    try:
        from stickyd.messaging.redis_check import check_redis
    except ModuleNotFoundError as problem:
        raise missing(address, problem) from None
    await check_redis(address)
