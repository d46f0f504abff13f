"""
An application whose workers all publish and all keep a ledger of what they hear.
"""

from __future__ import annotations

import json
import os
import time
from struct import Struct
from typing import TYPE_CHECKING, Any

from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from typing_extensions import override

from stickyd import bus
from stickyd.errors import BusClosed
from tests.system.apps import own_slot

if TYPE_CHECKING:
    from twisted.web.server import Request

    from stickyd.bus import Message

#: Who publishes, since when (nanoseconds of the clock that all processes share), and the number.
HEAD = Struct("!QQQ")

#: What stands behind it.
REST = bytes(76)

#: The worker of this slot hears of heavy messages too.
HEAVY_SLOT = 4
HEAVY = bytes(1_000_000)

#: So many messages each worker publishes at a time, and so many times a second.
AT_A_TIME = 20
TIMES_A_SECOND = 100


class Ledger:
    """
    What this worker has published and heard.

    :ivar next: the number that is due, by publisher.
    :ivar missing: how many did not come, by publisher.
    :ivar twice: how many came again, or too late.
    """

    def __init__(self) -> None:
        self.since_ns = 0
        self.published = 0
        self.next: dict[int, int] = {}
        self.missing: dict[int, int] = {}
        self.heard = self.twice = 0
        self._publishing = LoopingCall(self._publish)
        self._subscriptions = [
            bus.subscribe("ledger", self._hear),
            bus.subscribe("stop", lambda message: self._stop()),
        ]
        if own_slot() == HEAVY_SLOT:
            self._subscriptions.append(bus.subscribe("heavy", lambda message: None))
        bus.sync().deferred().addCallback(self._begin)

    def _begin(self, _: object) -> None:
        self.since_ns = time.monotonic_ns()
        self._publishing.start(1 / TIMES_A_SECOND)

    def _stop(self) -> None:
        if self._publishing.running:
            self._publishing.stop()

    def _publish(self) -> None:
        for _ in range(AT_A_TIME):
            try:
                bus.publish("ledger", HEAD.pack(os.getpid(), self.since_ns, self.published) + REST)
            except BusClosed:
                self._stop()  # the server stops before this worker, which is slow, was told to
                return
            self.published += 1

    def _hear(self, message: Message) -> None:
        pid, since_ns, number = HEAD.unpack_from(message.data)
        self.heard += 1
        # Of a publisher that has begun later than we the first one must have come too.
        first = 0 if 0 < self.since_ns < since_ns else number
        due = self.next.get(pid, first)
        if number < due:
            self.twice += 1
        else:
            if number > due:
                self.missing[pid] = self.missing.get(pid, 0) + number - due
            self.next[pid] = number + 1


ledger = Ledger()


class Report(Resource):
    """
    Tells what stands in the ledger.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        if request.path == b"/stop":
            bus.publish("stop", b"")
        if request.path == b"/heavy":
            for _ in range(10):
                bus.publish("heavy", HEAVY)
        told: dict[str, Any] = {
            "pid": os.getpid(),
            "published": ledger.published,
            "heard": ledger.heard,
            "missing": ledger.missing,
            "twice": ledger.twice,
            "next": ledger.next,
            "stopped": not ledger._publishing.running,
        }
        return json.dumps(told).encode()


site = Report()
