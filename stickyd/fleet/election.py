"""
Which worker of the fleet leads: the one that does what must be done once.

*Theory of operation.*  There is one primary, it has started every worker, and nobody else may
say that a worker leads.  So nothing has to be voted on; it is enough never to name the next one
before the former is surely none any more.  It is in two cases only: it has said so, after all that
the application does at the end has returned; or its process is gone, which the kernel says.  A
worker that hangs is the second case: it gives up by its own clock as far as it can
(:mod:`stickyd.leadership.lease`), and the watchdog kills it; until then nobody leads.

Of the lease of all machines (:mod:`stickyd.leadership.redis_lease`) the primary is told.  Who leads
next here goes on with it.  If nobody does, it is given back, for other machines to begin at once:
by the worker that has ended, which is told so, or, for one that has died, by the primary.  From
then on nobody here is told of it any more.

Terms are numbers that only grow, for whoever must refuse what a former leader still sends.  They
begin with the time of day, so that those of a primary that is started anew are larger than all
before.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger
from zope.interface import implementer

from stickyd.fleet.interfaces import IElection

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.interfaces import ICandidate

#: Seconds after the start of a primary before which nobody leads: the workers of a former one
#: that was killed end what they lead in half of that, or are ended
#: (:data:`stickyd.worker.orphan.LEADER_SECONDS`).
SETTLE_SECONDS = 2.0


class LeaseReturn(Protocol):
    """
    Gives the lease of all machines back for a worker that has died.
    """

    def prepare(self) -> None:
        """
        Called when this machine has the lease.
        """

    def give_back(self, fleet: str, term: int) -> None:
        """
        Have others begin now.

        :param fleet: the name of ours.
        :param term: for which we had it.
        """


@implementer(IElection)
class Election:
    """
    Names the leader.

    :ivar name: identifies the fleet among those of all machines, over upgrades too.
    :ivar term: of the last leader.
    :ivar held: for which term this fleet has the lease of all machines, and until when; zeros if it
        has none, or has given it back.
    :ivar leader: the worker that leads, or was told to and has not said yet that it has ended.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, wall_clock: Callable[[], float] = time.time) -> None:
        """
        :param wall_clock: gives the time of day, in seconds.
        """
        self._clock = clock
        self.name = secrets.token_hex(8)
        self.term = int(wall_clock() * 1000)
        self.held = (0, 0.0)
        self.leader: ICandidate | None = None
        # Those that may lead; the last one is preferred.
        self._candidates: list[ICandidate] = []
        self._opens_at = clock.seconds() + SETTLE_SECONDS
        self._opening: IDelayedCall | None = None
        self._is_restoring = False
        self._lease_return: LeaseReturn | None = None

    @property
    def is_led(self) -> bool:
        """
        Whether a worker leads, or is told to.
        """
        return self.leader is not None

    def give_back_by(self, lease_return: LeaseReturn) -> None:
        """
        Have the lease of all machines given back when a worker has died that had it, and nobody
        here goes on.
        """
        self._lease_return = lease_return

    def open(self) -> None:
        """
        Name leaders from now on, as those of a former self of this primary are known.
        """
        self._is_restoring = False
        self._opens_at = self._clock.seconds()
        self._elect()
        self._part_with_lease()
        self._prepare()

    def _prepare(self) -> None:
        if self.held[0] and self._lease_return is not None:
            self._lease_return.prepare()

    def dump_state(self) -> dict[str, Any]:
        """
        What a primary that replaces its code has to know, as JSON can carry it.
        """
        return {"term": self.term, "name": self.name, "held": self.held}

    def restore_state(self, plain: dict[str, Any]) -> None:
        """
        Go on as a former self of this primary, once :meth:`open` is called: its workers still lead.

        :param plain: what its :meth:`dump_state` gave; empty if it had none.
        """
        term = plain.get("term", 0)
        self.name = plain.get("name", self.name)
        term_held, until = plain.get("held", self.held)
        self.held = (term_held, until)
        self._is_restoring = True
        self.term = max(self.term, term)

    def hold(self, term: int, until: float) -> None:
        """
        Called when the leader has the lease of all machines.
        """
        is_first = not self.held[0]
        self.held = (term, until)
        if is_first:
            self._prepare()

    def stand(self, candidate: ICandidate) -> None:
        """
        Called with a worker that may lead from now on.
        """
        # Fresh workers come last, and so are preferred: during a reload the others leave soon.
        if candidate not in self._candidates:
            self._candidates.append(candidate)
            self._elect()

    def resume(self, candidate: ICandidate) -> None:
        """
        Called with the worker that has led since before the primary replaced its code.
        """
        self.leader = candidate

    def withdraw(self, candidate: ICandidate) -> None:
        """
        Called with a worker that may not lead any more; if it does, it says when it has ended.
        """
        if candidate in self._candidates:
            self._candidates.remove(candidate)

    def ended(self, candidate: ICandidate) -> None:
        """
        Called with the leader when it has ended to lead, in good order.
        """
        self._log.info("Worker {worker} leads no more", event="leader.ended", worker=candidate)
        self._vacate(candidate)
        if not self.is_led:
            self.held = (0, 0.0)

    def gone(self, candidate: ICandidate) -> None:
        """
        Called with a worker whose process is gone.
        """
        self.withdraw(candidate)
        if candidate is self.leader:
            self._log.info(
                "Worker {worker} has died while it led", event="leader.died", worker=candidate
            )
            self._vacate(candidate)
            self._part_with_lease()

    def _part_with_lease(self) -> None:
        if self.is_led or self._is_restoring:
            return
        (term, _), self.held = self.held, (0, 0.0)
        if term and self._lease_return is not None:
            self._lease_return.give_back(self.name, term)

    def _vacate(self, candidate: ICandidate) -> None:
        self.leader = None
        if candidate in self._candidates:
            # It has ended without being told to: its loop was stuck.  Any other one is better.
            self._candidates.remove(candidate)
            self._candidates.insert(0, candidate)
        self._elect()

    def _elect(self) -> None:
        if self._is_restoring or self.leader is not None or not self._candidates:
            return
        left = self._opens_at - self._clock.seconds()
        if left > 0:
            if self._opening is None:
                self._opening = self._clock.callLater(left, self._elect)
            return
        self.term += 1
        leader = self.leader = self._candidates[-1]
        self._log.info(
            "Worker {worker} leads (term {term})",
            event="leader.begun",
            worker=leader,
            term=self.term,
        )
        leader.lead(self.term)
