"""
The primary's part of the bus: whoever has subscribed gets what others publish.

Theory of operation.  Each worker has a stream socket of its own for the bus.  What is read from
one is cut into frames, and a message is put, as the bytes that it came in, into the queue of
every other worker that has subscribed to its channel; the worker itself has served its own
subscribers already.  The queues that got something are then sent, each with one system call for
all.  A worker that does not read has a queue that fills; what it misses from then on is counted,
and nobody else notices.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from stickyd.errors import FrameError
from stickyd.messaging.frame import PUBLISH, Kind, encode, number_in
from stickyd.messaging.peer import MOST_CHANNELS, BusPeer
from stickyd.net.throttle import Throttle

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.interfaces import IReadiness
    from stickyd.messaging.frame import Frame

#: Seconds between two lines in the log about messages that one worker has lost.
QUIET_SECONDS = 10.0

_FLEET_BYTES = 8


@dataclass(frozen=True)
class BusFigures:
    """
    What has happened on the bus since the primary began, its former selves included.

    :ivar published: messages that workers have sent to the primary.
    :ivar delivered: how often one was put into the queue of a worker that had subscribed.
    :ivar lost: how often one was not, as that queue was full.
    :ivar lost_between: messages that did not get from one machine to another, as far as a worker
        of this one could know, by way of Redis.
    :ivar queued: messages that wait in all queues now.
    :ivar queued_bytes: how much that is.
    :ivar channels: those that some worker has subscribed to.
    """

    published: int
    delivered: int
    lost: int
    lost_between: int
    queued: int
    queued_bytes: int
    channels: int


class BusHub:
    """
    Passes messages on between workers.

    :ivar fleet: the name of this fleet, which no other one has: its workers have it, and keep
        it over an upgrade.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        readiness: IReadiness,
        state: dict[str, Any] | None = None,
    ) -> None:
        """
        :param state: what :meth:`dump_state` gave in the code that was replaced.
        """
        state = state or {}
        self._readiness = readiness
        self.fleet = bytes.fromhex(state.get("fleet", "")) or os.urandom(_FLEET_BYTES)
        self._channels: dict[bytes, list[BusPeer]] = {}
        self._peers: set[BusPeer] = set()
        self._published: int = state.get("published", 0)
        self._delivered: int = state.get("delivered", 0)
        self._lost: int = state.get("lost", 0)
        self._lost_between: int = state.get("lost_between", 0)
        self._throttle = Throttle(clock.seconds, QUIET_SECONDS)

    def dump_state(self) -> dict[str, Any]:
        """
        What is not a single worker's, as JSON can carry it.
        """
        return {
            "fleet": self.fleet.hex(),
            "published": self._published,
            "delivered": self._delivered,
            "lost": self._lost,
            "lost_between": self._lost_between,
        }

    def attach(
        self, sock: socket.socket, name: Callable[[], str], state: dict[str, Any] | None = None
    ) -> BusPeer:
        """
        Have a worker take part.

        :param sock: our end of its bus, which is closed with the peer.
        :param name: gives what the worker is called in the log.
        :param state: what the peer's :meth:`BusPeer.dump_state` gave, if it took part before the
            code was replaced.
        """
        sock.setblocking(False)
        peer = BusPeer(self._readiness, sock, name, self._act, self._gone, state)
        self._peers.add(peer)
        for channel in peer.channels:
            self._channels.setdefault(channel, []).append(peer)
        if state is None:
            peer.queue.append(encode(Kind.HELLO, b"", self.fleet))
            peer.flush()
        return peer

    def close(self) -> None:
        """
        Have nobody take part any more.
        """
        for peer in list(self._peers):
            peer.end()

    @property
    def figures(self) -> BusFigures:
        """
        What has happened so far.
        """
        peers = self._peers
        return BusFigures(
            self._published,
            self._delivered,
            self._lost,
            self._lost_between,
            sum(peer.queue.count for peer in peers),
            sum(peer.queue.size_bytes for peer in peers),
            len(self._channels),
        )

    def _act(self, peer: BusPeer, frames: list[Frame]) -> None:
        """
        Do what a worker says.

        :raises FrameError: if it makes no sense.  What was said before counts.
        """
        if len(frames) == 1 and frames[0][0] == PUBLISH:
            self._pass_on(peer, frames[0])
            return
        channels = self._channels
        touched = set()
        try:
            for frame in frames:
                kind, channel, whole = frame
                if kind != PUBLISH:
                    self._order(peer, frame)
                    continue
                self._published += 1
                for other in channels.get(channel, ()):
                    if other is peer:
                        continue
                    if other.queue.append(whole):
                        self._delivered += 1
                        touched.add(other)
                    else:
                        self._lose(other)
        finally:
            for other in touched:
                other.flush()

    def _pass_on(self, peer: BusPeer, frame: Frame) -> None:
        """
        Send a message that has come alone, with nothing to be collected.
        """
        self._published += 1
        for other in self._channels.get(frame[1], ()):
            if other is peer:
                continue
            if other.pass_on(frame[2]):
                self._delivered += 1
            else:
                self._lose(other)

    def _order(self, peer: BusPeer, frame: Frame) -> None:
        kind, channel, _ = frame
        if kind == Kind.SUBSCRIBE:
            if channel in peer.channels:
                raise FrameError(f"a second subscription to {channel!r}")
            if len(peer.channels) >= MOST_CHANNELS:
                raise FrameError(f"more than {MOST_CHANNELS} subscriptions")
            peer.channels.add(channel)
            self._channels.setdefault(channel, []).append(peer)
        elif kind == Kind.UNSUBSCRIBE:
            if channel not in peer.channels:
                raise FrameError(f"no subscription to {channel!r} that could end")
            peer.channels.remove(channel)
            self._leave(peer, channel)
        elif kind == Kind.SYNC:
            peer.acknowledge(number_in(frame))
            peer.flush()
        elif kind == Kind.LOST:
            self._lost_between += number_in(frame)
        else:
            raise FrameError(f"a frame of the kind {Kind(kind).name}, which is the primary's")

    def _leave(self, peer: BusPeer, channel: bytes) -> None:
        peers = self._channels[channel]
        peers.remove(peer)
        if not peers:
            del self._channels[channel]

    def _lose(self, peer: BusPeer) -> None:
        peer.lost += 1
        self._lost += 1
        if self._throttle.due(str(peer)):
            self._log.warn(
                "Worker {worker} reads the bus too slowly: it has lost {lost} messages so far",
                event="bus.lost",
                worker=peer,
                lost=peer.lost,
            )

    def _gone(self, peer: BusPeer, problem: str) -> None:
        self._peers.discard(peer)
        for channel in peer.channels:
            self._leave(peer, channel)
        peer.channels.clear()
        if problem:
            self._log.error(
                "The bus of worker {worker} is ended, as it broke its protocol: {problem}",
                event="bus.ended",
                worker=peer,
                problem=problem,
            )
