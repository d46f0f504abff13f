"""
What the primary tells a worker, in the order in which the worker must hear it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import succeed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.defer import Deferred

    from stickyd.fleet.process.control import WorkerControl
    from stickyd.fleet.process.handoff_link import HandoffLink
    from stickyd.fleet.process.termination import Termination


class WorkerOrders:
    """
    Where clients belong, what tokens are verified with, and what is to be given away.

    Two channels lead to the worker.  What is still on its way by the handoff channel must be
    there before the worker gives away; and as the worker believes what it hears last, nothing
    that is said after a release may overtake it.  So whatever a release waits for, it goes
    first.
    """

    def __init__(self, link: HandoffLink, control: WorkerControl, termination: Termination) -> None:
        self._link = link
        self._control = control
        self._termination = termination
        self._serves = False
        self._also: Sequence[bytes] = ()  # what it verifies tokens with beside its own

    def go_on(self) -> None:
        """
        The worker serves already, as the former self of this primary has told it to.
        """
        self._serves = True

    def begin(self, slots: int, available: Sequence[int]) -> Deferred[object]:
        """
        Tell a worker that has what it needs to serve where clients belong: before it gets a
        connection it must know that.

        :return: fires when it knows; fails if it dies first.
        """
        self._serves = True
        if self._also:
            self.verify_also(self._also)
        return self._control.tell_places(slots, available)

    def tell_places(self, slots: int, available: Sequence[int]) -> None:
        """
        See :meth:`stickyd.fleet.interfaces.IWorker.tell_places`.
        """
        if self._hears:
            self._link.wait_no_more()
            told = self._control.tell_places(slots, available)
            told.addErrback(lambda _: None)  # its death is told elsewhere

    def verify_also(self, secrets: Sequence[bytes]) -> Deferred[None]:
        """
        See :meth:`stickyd.fleet.interfaces.IWorker.verify_also`.
        """
        self._also = secrets
        if not self._hears:
            return succeed(None)
        return self._control.verify_also(secrets).addBoth(lambda _: None)

    def release(self, placement: tuple[int, Sequence[int]] | None) -> Deferred[None]:
        """
        See :meth:`stickyd.fleet.interfaces.IWorker.release`.
        """
        slots, available = placement or (0, ())
        return (
            self._link.when_taken()
            .addCallback(lambda _: self._control.release(slots, available))
            .addCallback(lambda _: None)
        )

    def keep(self, placement: tuple[int, Sequence[int]] | None) -> Deferred[None]:
        """
        See :meth:`stickyd.fleet.interfaces.IWorker.keep`.
        """
        slots, available = placement or (0, ())
        return (
            self._link.when_taken()
            .addCallback(lambda _: self._control.keep(slots, available))
            .addCallback(lambda _: None)
        )

    def stay(self) -> None:
        """
        See :meth:`stickyd.fleet.interfaces.IWorker.stay`.
        """
        self._link.wait_no_more()
        self._control.stay()

    def stop(self, patience: float) -> None:
        """
        Have it finish within so many seconds, and exit.
        """
        self._link.wait_no_more()
        self._control.stop(patience)

    @property
    def _hears(self) -> bool:
        return self._serves and not self._termination.has_ended
