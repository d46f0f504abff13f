"""
All slots together: a connection goes in, the slot that owns its key gets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.fleet.lifecycle import Life, Lifecycle, new_lifecycle
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.handoff.frame import BY_KEY
from stickyd.interfaces import IDestination

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.backoff import Backoff
    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IPlacement, IRefusal, ISpawner


@implementer(IDestination)
class Fleet:
    """
    The slots, their workers, and the placement that chooses between them.

    :ivar slots: the slots, by index.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        make_placement: Callable[[int], IPlacement],
        count: int,
        queue: QueueLimits,
        refusal: IRefusal,
    ) -> None:
        """
        :param make_placement: makes the placement over a number of slots.
        :param count: how many slots, at least 1.
        """
        self._clock = clock
        self._make_placement = make_placement
        self._refusal = refusal
        self._slot_of = make_placement(count).slot_of
        self.slots = [Slot(index, clock, queue, refusal) for index in range(count)]
        self._lives: list[Life] = []
        self._lifecycles: list[Lifecycle] = []
        # The slots that did not fail, and the placement over them: used for the clients
        # of those that did.
        self._standing: list[Slot] = self.slots
        self._standing_slot_of = self._slot_of
        self._stopping: Deferred[None] | None = None
        self._overdue: IDelayedCall | None = None
        self._ended: set[int] = set()

    def start(self, spawner: ISpawner, backoff: Backoff, most_crashes: int) -> None:
        """
        Have a worker in every slot, from now until :meth:`stop`.
        """
        for slot in self.slots:
            life = Life(
                slot,
                self._clock,
                spawner,
                backoff,
                most_crashes,
                self._gave_up,
                self._slot_ended,
            )
            self._lives.append(life)
            self._lifecycles.append(new_lifecycle(life))
        for lifecycle in self._lifecycles:
            lifecycle.start()

    # connections

    def deliver(self, handoff: Handoff) -> None:
        """
        Give a connection to the slot that owns it; see :class:`IDestination`.
        """
        index = handoff.slot
        if index == BY_KEY:
            index = self._slot_of(handoff.key)
        slot = self.slots[index]
        if slot.failed:
            if not self._standing:
                self._refusal.refuse(handoff, "every slot has failed")
                return
            # The same client finds the same stand-in, as long as the same slots stand.  By a
            # key of its own: among fewer slots, rendezvous would give all of a failed slot's
            # clients the same index again, and so one neighbour all of its load.
            slot = self._standing[self._standing_slot_of(b"stand-in:" + handoff.key)]
        slot.deliver(handoff)

    def _gave_up(self, slot: Slot) -> None:
        self._standing = [slot for slot in self.slots if not slot.failed]
        if self._standing:
            self._standing_slot_of = self._make_placement(len(self._standing)).slot_of
        else:
            self._log.critical("Every slot has failed: no connection can be served until a restart")
        for handoff in slot.release():
            self.deliver(handoff)

    # the end

    def stop(self, patience: float) -> Deferred[None]:
        """
        Let the workers finish what was accepted, then end them.

        :param patience: seconds until what is still under way is cut off.
        :return: fires when no worker is left; never fails.
        """
        self._stopping = Deferred()
        deadline = self._clock.seconds() + patience

        def finish(slot: Slot, lifecycle: Lifecycle) -> None:
            if overdue.active():
                lifecycle.stop(max(0.0, deadline - self._clock.seconds()))

        def cut_off() -> None:
            for slot, lifecycle in zip(self.slots, self._lifecycles, strict=True):
                self._refuse_all(slot)
                lifecycle.stop(0.0)

        overdue = self._overdue = self._clock.callLater(patience, cut_off)
        for slot, lifecycle in zip(self.slots, self._lifecycles, strict=True):
            if slot.courier is None:
                self._refuse_all(slot)
            slot.when_settled(lambda slot=slot, lifecycle=lifecycle: finish(slot, lifecycle))  # type: ignore[misc]
        return self._stopping

    def _refuse_all(self, slot: Slot) -> None:
        for handoff in slot.release():
            self._refusal.refuse(handoff, "the server stops")

    def _slot_ended(self, slot: Slot) -> None:
        self._refuse_all(slot)
        self._ended.add(slot.index)
        if self._stopping is not None and len(self._ended) == len(self.slots):
            if self._overdue is not None and self._overdue.active():
                self._overdue.cancel()
            self._stopping.callback(None)
