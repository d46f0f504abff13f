"""
The end of a fleet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from stickyd.fleet.stop_notice import StopNotice

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.member import Member
    from stickyd.fleet.slot import Slot
    from stickyd.fleet.slot_table import SlotTable
    from stickyd.interfaces import IRefusal


class Shutdown:
    """
    Lets the workers finish what was accepted, then ends them.

    :ivar over: whether no worker is left.
    """

    def __init__(
        self,
        clock: IReactorTime,
        refusal: IRefusal,
        table: SlotTable,
    ) -> None:
        self._clock = clock
        self._table = table
        self._refusal = refusal
        self._closed: Deferred[None] = Deferred()
        self._overdue: IDelayedCall | None = None
        self._notice = StopNotice(clock, table.workers)
        self.over = False

    def begin(self, patience: float) -> Deferred[None]:
        """
        Begin.

        :param patience: seconds until what is still under way is cut off.
        :return: fires when no worker is left.
        """
        deadline = self._clock.seconds() + patience
        self._notice.begin(patience)

        def finish(member: Member) -> None:
            if overdue.active():
                member.machine.stop(max(0.0, deadline - self._clock.seconds()))

        for member in self._table.leaving:
            # They were given longer by the resize that took their slot away.
            member.workers.shorten_deadline(patience)
        overdue = self._overdue = self._clock.callLater(patience, self._cut_off)
        for member in list(self._table.members):
            if member.slot.worker is None and member.slot.successor is None:
                self.refuse_all(member.slot)
            member.slot.when_settled(lambda member=member: finish(member))  # type: ignore[misc]
        closed = self._closed
        self.look()
        return closed

    def cut_off(self) -> None:
        """
        Have everything end at once.
        """
        self._notice.begin(0.0)
        self._cut_off()
        for member in [*self._table.members, *self._table.leaving]:
            member.workers.shorten_deadline(0.0)

    def again(self) -> Deferred[None]:
        """
        Give another Deferred for the end that is under way.

        :return: fires when no worker is left.
        """
        again: Deferred[None] = Deferred()
        self._closed.addCallback(again.callback)
        return again

    def _cut_off(self) -> None:
        for member in self._table.members:
            self.refuse_all(member.slot)
            member.machine.stop(0.0)

    def refuse_all(self, slot: Slot) -> None:
        """
        Refuse the connections that wait at a slot.
        """
        for handoff in slot.release():
            self._refusal.refuse(handoff, "the server stops")

    def look(self) -> None:
        """
        Called when a slot has become empty.
        """
        running = any(not member.ended for member in self._table.members)
        if self.over or running or self._table.leaving:
            return
        if self._overdue is not None and self._overdue.active():
            self._overdue.cancel()
        self._notice.end()
        self.over = True
        self._closed.callback(None)
