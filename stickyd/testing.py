"""
Verified fakes for every seam of stickyd, for its own tests and for those of programs
that embed it.

Each one implements its interface (``zope.interface.verify.verifyObject`` holds for all),
keeps what it was given in public attributes, and does nothing by itself: time passes when
the test advances its :class:`twisted.internet.task.Clock`, workers get ready or die when
the test says so.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from stickyd.errors import WorkerError
from stickyd.figures.app_figures import AppFigures
from stickyd.fleet.election import Election
from stickyd.fleet.interfaces import IFleet
from stickyd.fleet.slot_services import ISteering
from stickyd.interfaces import (
    IDestination,
    IHandoffReceiver,
    IHost,
    IPlacement,
    IReadiness,
    IRefusal,
)
from stickyd.testing_worker import FakeSpawner, FakeWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from socket import socket

    from twisted.internet.interfaces import IAddress
    from twisted.internet.task import Clock

    from stickyd.fleet.slot import Slot
    from stickyd.handoff.frame import Handoff

    Goes = Callable[[Handoff], bool]
    Give = Callable[[socket, bytes, Handoff], None]

__all__ = [
    "FakeDestination",
    "FakeFleet",
    "FakeHost",
    "FakePlacement",
    "FakeReadiness",
    "FakeReceiver",
    "FakeRefusal",
    "FakeSpawner",
    "FakeSteering",
    "FakeWorker",
]


@implementer(IPlacement)
class FakePlacement:
    """
    Places each key on the slot that its last byte names, modulo the slots.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots

    def slot_of(self, key: bytes) -> int:
        return key[-1] % self.slots


@implementer(IDestination)
class FakeDestination:
    """
    Keeps what is delivered.  The descriptors stay open: :meth:`close` closes them.
    """

    def __init__(self) -> None:
        self.delivered: list[Handoff] = []

    def deliver(self, handoff: Handoff) -> None:
        self.delivered.append(handoff)

    def close(self) -> None:
        """
        Close every descriptor that was delivered.
        """
        for handoff in self.delivered:
            os.close(handoff.descriptor)


@implementer(IFleet)
class FakeFleet(FakeDestination):
    """
    Keeps what it is told; both of its slots are available, and none keeps sessions.

    :ivar resolved: what it was to place by its request; open, like ``delivered``.
    :ivar claims: slot and ids of each claim.
    :ivar learned: home, keys, ids, and whether they are gone, of each report.
    :ivar ended: the homes of those that know nobody any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pressed = False
        self.election = Election(Clock())
        self.app_figures = AppFigures()
        self.resolved: list[Handoff] = []
        self.claims: list[tuple[int, Sequence[bytes]]] = []
        self.learned: list[tuple[tuple[int, int], Sequence[bytes], Sequence[bytes], bool]] = []
        self.ended: list[tuple[int, int]] = []

    def places(self) -> tuple[int, list[int]]:
        return 2, [0, 1]

    def resolve(self, handoff: Handoff) -> None:
        self.resolved.append(handoff)

    def claim(self, index: int, identifiers: Sequence[bytes], generation: int = 0) -> None:
        self.claims.append((index, identifiers))

    def learn(
        self, home: tuple[int, int], keys: Sequence[bytes], ids: Sequence[bytes], gone: bool
    ) -> None:
        self.learned.append((home, keys, ids, gone))

    def finished(self, home: tuple[int, int]) -> None:
        self.ended.append(home)

    def kept(self) -> tuple[list[tuple[int, int]], bool]:
        return [], False

    def adopt_sessions(self, index: int, chunk: bytes) -> Deferred[None]:
        return fail(WorkerError(f"slot {index} has no worker to keep sessions"))

    def close(self) -> None:
        super().close()
        for handoff in self.resolved:
            os.close(handoff.descriptor)


@implementer(IRefusal)
class FakeRefusal:
    """
    Keeps what was refused, with the reason; closes nothing.
    """

    def __init__(self) -> None:
        self.refused: list[tuple[Handoff, str]] = []

    def refuse(self, handoff: Handoff, why: str) -> None:
        self.refused.append((handoff, why))


@implementer(ISteering)
class FakeSteering:
    """
    Keeps what the fleet tells.

    :ivar refusal: why no other number of slots can be, or empty.
    :ivar prepared: the numbers of slots that it was asked for.
    :ivar placements: each placement: how many slots, and which of them are available.
    :ivar occupations: the indices of slots that a worker began to serve, in order.
    """

    def __init__(self) -> None:
        self.refusal = ""
        self.prepared: list[int] = []
        self.placements: list[tuple[int, list[int]]] = []
        self.occupations: list[int] = []

    def prepare(self, slots: int) -> str:
        self.prepared.append(slots)
        return self.refusal

    def placed(self, slots: Sequence[Slot], available: Sequence[int]) -> None:
        self.placements.append((len(slots), list(available)))

    def occupied(self, slot: Slot) -> None:
        self.occupations.append(slot.index)


@implementer(IHandoffReceiver)
class FakeReceiver:
    """
    Keeps what a channel tells, in order, as ``(name, handoff or None)``.

    :ivar problems: how the other end broke the protocol.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, Handoff | None]] = []
        self.problems: list[str] = []

    def received(self, handoff: Handoff) -> None:
        self.events.append(("received", handoff))

    def returned(self, handoff: Handoff) -> None:
        self.events.append(("returned", handoff))

    def room(self) -> None:
        self.events.append(("room", None))

    def starved(self) -> None:
        self.events.append(("starved", None))

    def lost(self) -> None:
        self.events.append(("lost", None))

    def broken(self, problem: str) -> None:
        self.events.append(("broken", None))
        self.problems.append(problem)

    def handoffs(self, name: str) -> list[Handoff]:
        """
        The handoffs of the events of one name.
        """
        return [handoff for event, handoff in self.events if event == name and handoff]


@implementer(IReadiness)
class FakeReadiness:
    """
    Readiness that the test decides: it calls the callbacks by hand.

    :ivar readers: callbacks by descriptor.
    :ivar writers: the same for writing.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.readers: dict[int, Callable[[], object]] = {}
        self.writers: dict[int, Callable[[], object]] = {}

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> None:
        self.readers[descriptor] = callback

    def remove_reader(self, descriptor: int) -> bool:
        return self.readers.pop(descriptor, None) is not None

    def add_writer(self, descriptor: int, callback: Callable[[], object]) -> None:
        self.writers[descriptor] = callback

    def remove_writer(self, descriptor: int) -> bool:
        return self.writers.pop(descriptor, None) is not None

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> object:
        return self._clock.callLater(0, callback, *arguments)

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Any:
        return self._clock.callLater(delay, callback, *arguments)


@implementer(IHost)
class FakeHost:
    """
    Keeps the connections that it adopts; reads nothing and answers nothing.

    :ivar adopted: socket, peer and handoff of each; :meth:`close` closes the sockets.
    :ivar given_away: the two callables of each :meth:`give_away`.
    :ivar drained: fires the Deferred of :meth:`drain`; the test calls it.
    """

    def __init__(self) -> None:
        self.connections = 0  # each of which takes one descriptor
        self.requests = 0
        self.given_away: list[tuple[Goes, Give]] = []
        self.adopted: list[tuple[socket, IAddress, Handoff]] = []
        self.drained: Deferred[None] = Deferred()
        self.streams_ended = 0  # how often
        self.aborted = False
        self.stopped = False

    @property
    def descriptors(self) -> int:
        return self.connections

    def start(self) -> Deferred[None]:
        return succeed(None)

    def adopt(self, sock: socket, peer: IAddress, handoff: Handoff) -> None:
        self.connections += 1
        self.adopted.append((sock, peer, handoff))

    def clients(self) -> list[bytes]:
        return [each.client for _, _, each in self.adopted if each.client is not None]

    def give_away(self, goes: Goes, give: Give) -> Deferred[None]:
        self.given_away.append((goes, give))
        return succeed(None)

    def end_streams(self) -> None:
        self.streams_ended += 1

    def close(self) -> None:
        """
        Close every socket that was adopted.
        """
        for sock, _, _ in self.adopted:
            sock.close()

    def served(self) -> Iterator[Any]:
        return iter(())

    def drain(self) -> Deferred[None]:
        return self.drained

    def abort(self) -> None:
        self.aborted = True

    def stop(self) -> Deferred[None]:
        self.stopped = True
        return succeed(None)
