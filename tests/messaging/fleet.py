"""
A primary's hub and some workers' ends of the bus in one process, stepped by hand.
"""

from __future__ import annotations

import json
import select
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock

from stickyd.messaging.desk import BusDesk
from stickyd.messaging.hub import BusHub
from stickyd.messaging.worker_line import WorkerLine
from stickyd.testing import FakeReadiness

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.messaging.message import Message


class Member:
    """
    A worker on the bus.

    :ivar seen: the data that :meth:`hear` has heard, by channel.
    """

    def __init__(self, clock: Clock, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.readiness = FakeReadiness(clock)
        self.desk = BusDesk()
        self.line = WorkerLine(
            self.readiness,
            lambda call: clock.callLater(0, call),
            sock,
            self.desk.deliver,
            self.desk.close,
        )
        self.desk.open(self.line)
        self.seen: dict[str, list[bytes]] = {}

    def hear(self, channel: str) -> Callable[[], object]:
        """
        Subscribe.
        """

        def keep(message: Message) -> None:
            self.seen.setdefault(message.channel, []).append(message.data)

        return self.desk.subscribe(channel, keep)


class Bus:
    """
    A hub, and members that come and go.

    :ivar names: what each is called, by member.
    """

    def __init__(self, members: int = 0, state: dict[str, Any] | None = None) -> None:
        self.clock = Clock()
        self.readiness = FakeReadiness(self.clock)
        self.hub = BusHub(self.clock, self.readiness, state)
        self.members: list[Member] = []
        self.peers: list[Any] = []
        for _ in range(members):
            self.join()

    def join(self) -> Member:
        """
        Have one more worker.
        """
        _, theirs = self.raw()
        member = Member(self.clock, theirs)
        self.members.append(member)
        return member

    def raw(self) -> tuple[socket.socket, socket.socket]:
        """
        Have one more that speaks bytes.

        :return: the primary's end, which is the hub's, and the other, which is the caller's.
        """
        ours, theirs = socket.socketpair()
        self.peers.append(self.hub.attach(ours, lambda: f"{len(self.peers)}"))
        theirs.settimeout(5)
        return ours, theirs

    def upgrade(self) -> None:
        """
        Have the hub's code replaced: everything of it goes by its state, as JSON.
        """
        carried = [peer for peer in self.peers if peer.is_open]
        plain = json.loads(json.dumps([peer.dump_state() for peer in carried]))
        hub = json.loads(json.dumps(self.hub.dump_state()))
        self.readiness = FakeReadiness(self.clock)
        self.hub = BusHub(self.clock, self.readiness, hub)
        self.peers = []
        for peer, state in zip(carried, plain, strict=True):
            # An exec forgets the object, and keeps the descriptor.
            sock = socket.socket(fileno=peer._socket.detach())
            assert sock.fileno() == state["descriptor"]
            self.peers.append(self.hub.attach(sock, lambda: "again", state))

    def step(self, *, deaf: Member | None = None) -> bool:
        """
        Let everybody do once what it can.

        :param deaf: who does not read.
        :return: whether anything was done.
        """
        acted = any(call.active() for call in self.clock.getDelayedCalls())
        self.clock.advance(0)
        for readiness in (self.readiness, *(member.readiness for member in self.members)):
            if deaf is not None and readiness is deaf.readiness:
                readers: dict[int, Callable[[], object]] = {}
            else:
                readers = readiness.readers
            ready, writable, _ = select.select(list(readers), list(readiness.writers), [], 0)
            for descriptor in ready:
                acted = True
                if descriptor in readers:
                    readers[descriptor]()
            for descriptor in writable:
                acted = True
                if descriptor in readiness.writers:
                    readiness.writers[descriptor]()
        return acted

    def settle(self, *, deaf: Member | None = None) -> None:
        """
        Go on until nothing is left to be done.
        """
        for _ in range(100_000):
            if not self.step(deaf=deaf):
                return
        raise AssertionError("it never settles")

    def close(self) -> None:
        """
        End all.
        """
        for member in self.members:
            member.line.close("the test is over")
        for peer in self.peers:
            peer.end()
