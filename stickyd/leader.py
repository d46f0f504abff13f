"""
The one worker that does what must be done once: a scheduler, a poller, a clean-up.

Of all workers whose application asks, by :func:`subscribe` or :func:`is_leader`, one leads at a
time.  It leads until it ends or is relieved; the next one begins only when its ends are over, or
its process is gone.  ``stickyd.leader.term`` is the number of the term, which only grows, and 0 in
a worker that does not lead: whoever is written to can refuse what comes with a smaller one than
it has seen.

In a process that stickyd does not run (a test, another server) it leads always.  In a process that
a worker has started or forked, never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.leadership.desk import leadership as _leadership
from stickyd.leadership.subscription import Subscription as Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    term: int
else:

    def __getattr__(name: str) -> object:
        if name != "term":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return _leadership.term


def is_leader() -> bool:
    """
    Tell whether this worker leads now.  From any thread, and it costs next to nothing.

    It is false from the moment in which the worker is relieved or told to stop, or its primary
    dies; and when its loop has been stuck for ``--hang-timeout`` seconds.
    """
    return _leadership.leads


def subscribe(
    on_begin: Callable[[], object],
    on_end: Callable[[], object] | None = None,
    *,
    thread: bool = False,
) -> Subscription:
    """
    Have a function called when this worker begins to lead, at once if it does already, and
    another one when it has ended to.  From any thread, also while the application is imported; they
    are called when the worker serves.

    In a worker they are called in the thread of its loop, and must not block; either may be a
    coroutine function, or return a Deferred.  The end waits for the beginning, and what of that
    still runs is cancelled: so a coroutine that works as long as the worker leads may be the
    beginning.  With ``thread`` each is called in a thread of its own and may block; the end is
    called a second after the beginning at the latest, and a beginning that works as long as it
    leads looks at :func:`is_leader`.

    The next leader begins when all ends have returned, and so have their coroutines: an end that
    waits for a job to finish keeps others from beginning it.  If the primary dies, there is one
    second for that, then the process is ended.

    What they raise is logged.

    :param on_end: not called when a process ends that stickyd does not run.
    :return: call it to unsubscribe; the end is called then if the beginning was.
    :raises stickyd.errors.ApplicationError: outside of a worker, for a coroutine function, where
        no loop runs.
    """
    return _leadership.subscribe(on_begin, on_end, thread)
