"""
Whether this process leads, and who is told: the state behind ``stickyd.leader``.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING

from stickyd.leadership.alone import Alone
from stickyd.leadership.lease import Lease
from stickyd.leadership.loop_calls import LoopCalls
from stickyd.leadership.own_loop import OwnLoop
from stickyd.leadership.subscription import Subscription
from stickyd.leadership.thread_calls import ThreadCalls

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from stickyd.leadership.interfaces import Primary

#: In the environment of a worker, and so of what it starts: no child of a worker ever leads.
WORKER = "STICKYD_WORKER"

#: Seconds after which a worker withdraws that nobody wants to lead in any more: an application
#: that subscribes anew now and then remains what it is.
WITHDRAW_SECONDS = 1.0


class Leadership:
    """
    Outside of a worker the process leads from its first moment to its last.  In a worker it leads
    when the primary says so; in a child of a worker, and where an application is only tried, never.

    All of it may be called from any thread, but for what says otherwise.
    """

    def __init__(self) -> None:
        self._set_up(is_alone=WORKER not in os.environ)

    def _set_up(self, is_alone: bool) -> None:
        self._is_alone = is_alone
        self._lock = threading.RLock()
        self._lease = Lease(self.give_up)
        self._loop = OwnLoop()
        self._primary: Primary | None = None
        self._subscriptions: list[Subscription] = []
        # The ends that are not over yet.
        self._unfinished: set[Future[None]] = set()
        self._term = int(time.time() * 1000) if is_alone else 0
        # What the primary still has to be told as ended.
        self._ending = 0
        self._is_asked = False
        self._is_relieved = False
        self._is_left = False
        self._stands = False

    # for the application

    @property
    def leads(self) -> bool:
        """
        Whether this process leads now.  Who asks takes part.
        """
        if not self._is_asked:
            self._is_asked = True
            self._look()
        return self._is_alone or (self._term != 0 and self._lease.holds)

    @property
    def term(self) -> int:
        """
        The number of the term for which it leads; 0 if it does not.
        """
        term = self._term
        return term if self.leads else 0

    def subscribe(
        self, on_begin: Callable[[], object], on_end: Callable[[], object] | None, thread: bool
    ) -> Subscription:
        """
        See :func:`stickyd.leader.subscribe`.
        """
        calls: LoopCalls | ThreadCalls
        if thread:
            calls = ThreadCalls(on_begin, on_end)
        else:
            loop = Alone(on_begin) if self._is_alone else self._loop
            calls = LoopCalls(on_begin, on_end, loop)
        subscription = Subscription(calls, self._unsubscribe)
        with self._lock:
            self._subscriptions.append(subscription)
            if self._term:
                subscription.begin()
        self._look()
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
                self._finish(subscription)
        self._look()

    def _look(self) -> None:
        primary = self._primary
        if primary is not None:
            primary.in_loop(self._tell_soon, primary)

    # for the process

    def forbid(self) -> None:
        """
        Never lead: this is a child of a worker, or only tries the application.
        """
        self._set_up(is_alone=False)

    def manage(self) -> None:
        """
        Called in a worker before the application is imported: lead when the primary says so.
        """
        self.forbid()
        os.environ[WORKER] = str(os.getpid())
        os.register_at_fork(after_in_child=self.forbid)

    def open(self, primary: Primary) -> None:
        """
        Called in the loop of a worker when that begins to serve.
        """
        self._primary = primary
        self._loop.open(primary)
        self._tell_soon(primary)

    @property
    def _wants(self) -> bool:
        return not (self._is_left or self._is_relieved) and (
            self._is_asked or bool(self._subscriptions)
        )

    def _tell_soon(self, primary: Primary) -> None:
        if self._wants and not self._stands:
            self._tell(primary)
        elif self._stands and not self._wants:
            primary.later(WITHDRAW_SECONDS, lambda: self._tell(primary))

    def _tell(self, primary: Primary) -> None:
        if self._wants != self._stands:
            self._stands = not self._stands
            primary.stand(self._stands)
            if not self._stands:
                self.give_up()

    def begin(self, term: int, lease_seconds: float) -> None:
        """
        Lead from now on.  Called in the loop.

        :param lease_seconds: until when, unless :meth:`renew` is called before.
        """
        with self._lock:
            self._ending = term
            if self._stands:
                self._term = term
                self._lease.renew(lease_seconds)
                for subscription in self._subscriptions:
                    subscription.begin()
            self._tell_ended()

    def renew(self, lease_seconds: float) -> None:
        """
        Called in the loop again and again, which says that this is not stuck.
        """
        with self._lock:
            if self._term and self._lease.holds:
                self._lease.renew(lease_seconds)

    def relieve(self, is_relieved: bool) -> None:
        """
        Lead no more, as a successor takes over, though this worker may go on for long; or take part
        again, as it does not after all.  Called in the loop.
        """
        self._is_relieved = is_relieved
        if self._primary is not None:
            self._tell(self._primary)

    def leave(self) -> None:
        """
        Lead no more, and never again: the worker ends.  Called in the loop.
        """
        self._is_left = True
        if self._primary is not None:
            self._tell(self._primary)

    def give_up(self) -> None:
        """
        Lead no more; the primary is told when all that has begun is over.
        """
        with self._lock:
            if self._is_alone or not self._term:
                return
            self._term = 0
            self._lease.end()
            for subscription in self._subscriptions:
                self._finish(subscription)
            self._tell_ended()

    def give_up_within(self, seconds: float) -> bool:
        """
        Lead no more; in a thread that is not the loop's.

        :return: whether all that had begun is over in so many seconds.
        """
        self.give_up()
        return not wait(self.unfinished, seconds).not_done

    @property
    def stands(self) -> bool:
        """
        Whether the primary was told that this worker wants to lead.
        """
        return self._stands

    @property
    def is_over(self) -> bool:
        """
        Whether nothing has begun of which the primary is still to be told the end.
        """
        return not self._ending

    @property
    def unfinished(self) -> list[Future[None]]:
        """
        What is done when all that has begun, and was told to end, is over.
        """
        with self._lock:
            return list(self._unfinished)

    def _finish(self, subscription: Subscription) -> None:
        over = subscription.end()
        if over is not None:
            self._unfinished.add(over)
            over.add_done_callback(self._finished)

    def _finished(self, over: Future[None]) -> None:
        with self._lock:
            self._unfinished.discard(over)
            self._tell_ended()

    def _tell_ended(self) -> None:
        primary = self._primary
        if self._ending and not self._term and not self._unfinished and primary is not None:
            term, self._ending = self._ending, 0
            primary.in_loop(primary.ended, term)
