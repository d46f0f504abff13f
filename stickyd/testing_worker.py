"""
Fakes of workers, and of what starts them; :mod:`stickyd.testing` is where they are imported
from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from stickyd.figures.worker_figures import WorkerFigures
from stickyd.fleet.interfaces import IWorker
from stickyd.fleet.slot_services import ISpawner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stickyd.fleet.slot import Slot
    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IDestination


@implementer(IWorker)
class FakeWorker:
    """
    A worker without a process.

    :ivar window: how many more connections it takes.
    :ivar sent: what it was sent.
    :ivar in_flight: what of that it has not acknowledged.
    :ivar stopped: the patience of each :meth:`stop`.
    :ivar releases: each placement that it was to give away by, and the Deferred that the
        test fires when it has.
    :ivar knows_clients: whether it can keep its clients.
    :ivar memory: how many bytes it has.
    :ivar kept: each placement that it was to keep them by, and the Deferred that the test
        fires when it has said whom.
    :ivar queue: what it gets connections from.
    :ivar stays: how often it was told to go on after all.
    :ivar sessions: the chunks that it adopted.
    :ivar places: what it was told of how clients are placed.
    :ivar verified: the secrets that it was told to verify with.
    :ivar connections: how many it says it has, of what it has acknowledged.
    :ivar entrusted: the listening sockets that it was given; they stay open.
    :ivar seconds_left: what it says.
    :ivar silent_seconds: what it says.
    :ivar looks: what it was asked for operators.
    :ivar accepts: how often it was told to accept again.
    """

    def __init__(
        self, pid: int, slot: Slot, ready: Callable[[], None], died: Callable[[str], None]
    ) -> None:
        self.pid = pid
        self.slot = slot
        self.ready = ready
        self.died = died
        self.window = 64
        self.sent: list[Handoff] = []
        self.in_flight: list[Handoff] = []
        self.stopped: list[float] = []
        self.releases: list[tuple[tuple[int, Sequence[int]] | None, Deferred[None]]] = []
        self.stays = 0
        self.sessions: list[bytes] = []
        self.places: list[tuple[int, Sequence[int]]] = []
        self.verified: list[Sequence[bytes]] = []
        self.connections = 0
        self.entrusted: list[Handoff] = []
        self.accepts = 0
        self.quiet = True
        self.lives = True
        self.seconds_left: float | None = None
        self.silent_seconds = 0.0
        self.looks: list[str] = []
        self.last_words = ""
        self.figures = WorkerFigures()
        self.generation = slot.generation
        self.queue: IDestination = slot
        self.generation_name = ""
        self.knows_clients = False
        self.memory = 0.0
        self.kept: list[tuple[tuple[int, Sequence[int]] | None, Deferred[None]]] = []

    def dump_state(self) -> dict[str, Any]:
        return {"pid": self.pid}

    def look(self, what: str) -> Deferred[str]:
        self.looks.append(what)
        return succeed("{}")

    def dump_stacks(self, heard: Callable[[str], object]) -> Callable[[], None]:
        heard("Thread 0x1 (most recent call first):")
        return lambda: None

    def entrust(self, listener: Handoff) -> None:
        self.entrusted.append(listener)

    def accept(self) -> None:
        self.accepts += 1

    def send(self, handoff: Handoff) -> bool:
        if len(self.in_flight) >= self.window:
            return False
        self.sent.append(handoff)
        self.in_flight.append(handoff)
        return True

    def ask_for_app_figures(self) -> Deferred[object]:
        return succeed(None)

    def count(self) -> None:
        pass

    @property
    def load(self) -> int:
        return self.connections + len(self.in_flight)

    def acknowledge(self) -> None:
        """
        Take all that is in flight, and say so.
        """
        self.in_flight.clear()
        self.slot.room()

    def reclaim(self) -> list[Handoff]:
        unacknowledged, self.in_flight = self.in_flight, []
        self.window = 0  # the channel is closed
        return unacknowledged

    def release(self, placement: tuple[int, Sequence[int]] | None) -> Deferred[None]:
        released: Deferred[None] = Deferred()
        self.releases.append((placement, released))
        return released

    def keep(self, placement: tuple[int, Sequence[int]] | None) -> Deferred[None]:
        told: Deferred[None] = Deferred()
        self.kept.append((placement, told))
        return told

    def serve_beside(self, queue: Any) -> None:
        self.queue = queue

    def tell_places(self, slots: int, available: Sequence[int]) -> None:
        self.places.append((slots, available))

    def verify_also(self, secrets: Sequence[bytes]) -> Deferred[None]:
        self.verified.append(secrets)
        return succeed(None)

    def stay(self) -> None:
        self.stays += 1

    def adopt_sessions(self, chunk: bytes) -> Deferred[None]:
        self.sessions.append(chunk)
        return succeed(None)

    def reopen_log(self) -> None:
        pass

    def kill(self) -> None:
        self.died("died of signal 9 (SIGKILL)")

    def stop(self, patience: float) -> None:
        self.stopped.append(patience)


@implementer(ISpawner)
class FakeSpawner:
    """
    Keeps the workers that it was asked for; the first has pid 1001.
    """

    def __init__(self) -> None:
        self.workers: list[FakeWorker] = []
        self.spare = False
        self.wanting: list[Callable[[], bool]] = []

    def call_when_spare(self, call: Callable[[], bool]) -> None:
        self.wanting.append(call)

    def spawn(
        self, slot: Slot, ready: Callable[[], None], died: Callable[[str], None]
    ) -> FakeWorker:
        worker = FakeWorker(1001 + len(self.workers), slot, ready, died)
        self.workers.append(worker)
        return worker

    def restore(
        self,
        slot: Slot,
        ready: Callable[[], None],
        died: Callable[[str], None],
        plain: dict[str, Any],
    ) -> FakeWorker:
        worker = self.spawn(slot, ready, died)
        worker.pid = plain["pid"]
        return worker
