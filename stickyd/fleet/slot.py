"""
A slot: the stable place that a client is bound to, and the connections that wait there.

Clients belong to slots, never to workers: a restart changes the worker and leaves the
slot.  What happens to the worker is in :mod:`stickyd.fleet.slot_machine`; here is what happens
to the connections.  As it happens to every one of them, delivering is no input of the state
machine: it only asks whether there is a worker.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from stickyd.figures.slot_figures import SlotFigures
from stickyd.handoff.frame import Flag, Handoff
from stickyd.interfaces import IDestination

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.interfaces import IWorker
    from stickyd.interfaces import IRefusal

#: The load of a slot that has no worker (yet).
UNSERVED = 1 << 32

#: More connections than there can be.
UNBOUNDED = 1 << 32

#: Seconds without an acknowledgement after which a worker no longer counts as working off the
#: queue.
PROGRESS_SECONDS = 1.0

#: How often a connection is sent again to a worker that cannot receive its descriptor.
MOST_REFUSALS = 3


@dataclass(frozen=True)
class QueueLimits:
    """
    What a slot's queue may hold.

    :ivar length: connections that may wait for a worker.
    :ivar patience: seconds that each of them may wait.
    :ivar together: gives how many may wait at all slots together.
    """

    length: int
    patience: float
    together: Callable[[], int] = lambda: UNBOUNDED


@implementer(IDestination)
class Slot:
    """
    One slot.

    :ivar index: its number, 0 .. slots - 1, for good.
    :ivar worker: the worker that serves now, if one does.
    :ivar queue: connections that wait, oldest first.
    :ivar failed: whether the slot has given up: its clients are placed elsewhere.
    :ivar drained: whether the operator keeps clients away from it.
    :ivar successor: the worker that takes over while none serves.
    :ivar begun: the worker that has come to serve while the slot is paused.
    :ivar figures: what it and its workers have done.
    :ivar generation: of the worker that is started next.
    """

    _log = Logger()

    def __init__(
        self,
        index: int,
        clock: IReactorTime,
        limits: QueueLimits,
        refusal: IRefusal,
        occupied: Callable[[Slot], None] = lambda slot: None,
        free: Callable[[], int] = lambda: UNBOUNDED,
        figures: SlotFigures | None = None,
    ) -> None:
        """
        :param occupied: told when a worker begins to serve.
        :param free: gives how many more connections may wait at all slots together.
        :param figures: where it counts; its own by default.
        """
        self.index = index
        self.figures = SlotFigures(index) if figures is None else figures
        self.worker: IWorker | None = None
        self.queue: deque[Handoff] = deque()
        self.failed = False
        self.drained = False
        self.successor: IWorker | None = None
        self.generation = 1
        self.begun: IWorker | None = None
        self._paused = False
        self._clock = clock
        self._limits = limits
        self._refusal = refusal
        self._occupied = occupied
        self._free = free
        self._last_sent = float("-inf")
        self._expiry: IDelayedCall | None = None
        self._when_settled: Callable[[], None] | None = None

    def deliver(self, handoff: Handoff) -> None:
        """
        Give a connection to the worker, or let it wait; see :class:`IDestination`.
        """
        worker = self.worker
        if worker is None or self.queue or not worker.send(handoff):
            self._wait(handoff)

    def _wait(self, handoff: Handoff) -> None:
        problem = self._objection_to(handoff)
        if problem:
            self._refusal.refuse(handoff, problem)
            return
        if not handoff.deadline:
            handoff.deadline = self._clock.seconds() + self._limits.patience
        self.queue.append(handoff)
        self.figures.queues(len(self.queue))
        self._watch_expiry()

    def _objection_to(self, handoff: Handoff) -> str:
        """
        Why a connection cannot wait here; empty if it can.

        One that a worker gives back while this slot goes over to a successor, or while the
        successor works off what has come meanwhile, is only bounded by the descriptors:
        :attr:`pressed` has no more of them come than can be held.
        """
        waiting, free = len(self.queue), self._free()
        moves = bool(handoff.flags & Flag.SERVED) and self._moves
        if waiting >= self._limits.length and not moves:
            return f"the queue of slot {self.index} is full"
        # No slot may have all: one whose worker is stuck leaves as much as it takes.
        if free <= 0 or (waiting >= free and not (moves and self.worker is None)):
            return (
                f"the queue of slot {self.index} has its share of the descriptors; raise the"
                " limit of open files (ulimit -n, LimitNOFILE=)"
            )
        return ""

    @property
    def _moves(self) -> bool:
        """
        Whether what waits does so because one worker gives way to another, or is being worked
        off.
        """
        if self.worker is None:
            return self.successor is not None
        return self._clock.seconds() - self._last_sent < PROGRESS_SECONDS

    @property
    def pressed(self) -> bool:
        """
        Whether so many connections wait, and not in vain, that the slot's workers should give
        none back for a moment.
        """
        waiting = len(self.queue)
        many = waiting >= self._limits.length / 2 or waiting >= self._free() / 2
        return waiting > 0 and many and self._moves

    # from the channel (IHandoffReceiver, by way of the worker)

    def room(self) -> None:
        """
        Send what waits, as far as the worker takes it.
        """
        worker = self.worker
        queue = self.queue
        if worker is not None:
            while queue and worker.send(queue[0]):
                waited = queue.popleft()
                self._last_sent = now = self._clock.seconds()
                self.figures.waited(now - waited.deadline + self._limits.patience)
        self._settle()

    def returned(self, handoff: Handoff) -> None:
        """
        Take a connection back that the worker could not receive.
        """
        self.figures.came_back()
        if handoff.refusals > MOST_REFUSALS:
            self._refusal.refuse(
                handoff, f"the worker of slot {self.index} has no descriptor free for it"
            )
        else:
            # First, but behind those that came back before it.
            before = []
            while (
                self.queue and self.queue[0].refusals and self.queue[0].sequence < handoff.sequence
            ):
                before.append(self.queue.popleft())
            self.wait_first([*before, handoff])

    @property
    def load(self) -> int:
        """
        About how many connections it has; of a slot without a worker so many that no client is
        sent there that can go elsewhere.
        """
        worker = self.worker
        return len(self.queue) + (UNSERVED if worker is None else worker.load)

    # from the state machine

    @property
    def available(self) -> bool:
        """
        Whether clients may be placed here.
        """
        return not (self.failed or self.drained)

    def fail(self) -> None:
        """
        Have clients placed elsewhere, until a worker serves here after all.
        """
        self.failed = True

    def drain(self) -> None:
        """
        Keep clients away, until :meth:`undrain`.
        """
        self.drained = True

    def undrain(self) -> None:
        """
        Let clients come back.
        """
        self.drained = False

    def renew(self, generation: int) -> None:
        """
        Have the workers that are started from now on be of another generation.
        """
        self.generation = generation

    def hold(self, successor: IWorker | None) -> None:
        """
        Let new connections wait until ``successor`` has what it needs to serve them.  It may be
        the worker that has served all the time, while it gives away what is not its own.
        """
        self.worker = self.begun = None
        self.successor = successor

    def pause(self) -> None:
        """
        Have whatever worker comes to serve get nothing before :meth:`go_on`: what waits here
        may belong elsewhere by then.
        """
        self._paused = True

    def go_on(self) -> None:
        """
        Let workers serve again, beginning with the one that has come meanwhile.
        """
        self._paused = False
        if self.begun is not None:
            self.occupy(self.begun)

    def occupy(self, worker: IWorker) -> None:
        """
        A worker serves: send it what waits.
        """
        if self._paused:
            self.hold(worker)
            self.begun = worker
            self.failed = False
            return
        self.worker = worker
        self.successor = self.begun = None
        self.failed = False
        self._occupied(self)
        self.room()

    def vacate(self, unacknowledged: list[Handoff]) -> None:
        """
        The worker is gone: keep what it had not acknowledged for its successor.
        """
        self.worker = self.successor = self.begun = None
        self.replay(unacknowledged)

    def replay(self, unacknowledged: list[Handoff]) -> None:
        """
        Take over what a worker had not acknowledged that had the slot, or was about to have it.
        """
        self.figures.replays(len(unacknowledged))
        self.wait_first(unacknowledged)
        self.room()

    def wait_first(self, handoffs: list[Handoff]) -> None:
        """
        Put connections, oldest first, before those that wait.

        They were accepted earlier, so the limit of the queue does not count for them, and they
        wait no longer than those behind them: the first in the queue is always the first due.
        """
        latest = self._clock.seconds() + self._limits.patience
        for handoff in reversed(handoffs):
            if self.queue:
                latest = min(latest, self.queue[0].deadline)
            handoff.deadline = min(handoff.deadline or latest, latest)
            self.queue.appendleft(handoff)
        self.figures.queues(len(self.queue))
        self._watch_expiry()

    def release(self) -> list[Handoff]:
        """
        Give up all that waits.

        :return: the connections, oldest first, which are the caller's now.
        """
        waiting = list(self.queue)
        self.queue.clear()
        self._settle()
        return waiting

    def dump_queue(self) -> list[dict[str, Any]]:
        """
        The connections that wait as JSON can carry them, for a primary that replaces its code.
        """
        now = self._clock.seconds()
        return [handoff.dump_state(now) for handoff in self.queue]

    def restore_queue(self, plain: Sequence[dict[str, Any]]) -> None:
        """
        Have the connections wait again that waited before the primary replaced its code.

        :param plain: what its :meth:`dump_queue` gave.
        """
        now = self._clock.seconds()
        self.wait_first([Handoff.from_state(each, now) for each in plain])

    def when_settled(self, call: Callable[[], None]) -> None:
        """
        Call once nothing waits and nothing is on its way to the worker: perhaps at once.
        """
        self._when_settled = call
        self._settle()

    def _settle(self) -> None:
        settled = not self.queue and (self.worker is None or not self.worker.in_flight)
        if settled and self._when_settled is not None:
            call, self._when_settled = self._when_settled, None
            call()

    # the deadline of those that wait

    def _watch_expiry(self) -> None:
        if not self.queue:
            return
        due = self.queue[0].deadline
        if self._expiry is None:
            self._expiry = self._clock.callLater(
                max(0.0, due - self._clock.seconds()), self._expire
            )
        elif due < self._expiry.getTime():
            self._expiry.reset(max(0.0, due - self._clock.seconds()))

    def _expire(self) -> None:
        self._expiry = None
        now = self._clock.seconds()
        while self.queue and self.queue[0].deadline <= now:
            self._refusal.refuse(
                self.queue.popleft(),
                f"no worker of slot {self.index} took it within {self._limits.patience:g} s",
            )
        self._watch_expiry()
        self._settle()
