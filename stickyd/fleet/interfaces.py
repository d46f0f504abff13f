"""
The seams between slots and processes.

Slots, their state machine and the placement of connections are pure: they know a worker as
:class:`IWorker` only, so that all they do is tried without a process, by the fakes of
:mod:`stickyd.testing` too.  Processes know the slots as :class:`IFleet` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

from stickyd.interfaces import IDestination, IHandoffSender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred

    from stickyd.figures.app_figures import AppFigures
    from stickyd.figures.worker_figures import WorkerFigures
    from stickyd.handoff.frame import Handoff


class IWorker(IHandoffSender):
    """
    A worker process, seen from the primary.
    """

    pid: int = Attribute("Its process id; 0 if it could not be started.")

    figures: WorkerFigures = Attribute("What is known of it, as of the last :meth:`count`.")

    last_words: str = Attribute(
        "The last line that it printed, or logged as an error; empty if there is none."
    )

    generation: int = Attribute(
        "Its generation: with its slot it names one worker of those that were not relieved."
    )

    generation_name: str = Attribute("What that is called; empty if it has no name.")

    knows_clients: bool = Attribute(
        "Whether it remembers who its clients are, so that it can keep them."
    )

    memory: float = Attribute("How many bytes it said last that it has resident; 0 at first.")

    lives: bool = Attribute("Whether there is a process of that id, for all we know.")

    silent_seconds: float = Attribute(
        "How long ago its last heartbeat came; 0.0 before it was ready."
    )

    seconds_left: float | None = Attribute(
        "How long it may still take to finish; None if there is no end set to it."
    )

    def look(what: str) -> Deferred[str]:
        """
        Ask what it is doing, for an operator; see :class:`stickyd.control.commands.Look`.

        :return: fires with its answer, which may be anything; fails if it dies first, or cannot
            be asked.
        """

    def dump_stacks(heard: Callable[[str], object]) -> Callable[[], None]:
        """
        Have it write the stacks of its threads to its standard error, however stuck it is.

        :param heard: called with each line that it writes from now on.
        :return: ends that.
        """

    def entrust(listener: Handoff) -> None:
        """
        Have it accept from a listening socket by itself, until it gives everything away.

        :param listener: a handoff of the purpose *listener*; the worker closes its descriptor,
            or has the acknowledgement close it.
        """

    def accept() -> None:
        """
        Have it accept again from the listening sockets that it was entrusted with: it ceased
        to do so when it was told that its slot is not available.
        """

    load: int = Attribute(
        """
        About how many connections it has: those that it reported last, and those that
        were sent since or are on their way.
        """
    )

    def release(placement: tuple[int, Sequence[int]] | None) -> Deferred[None]:
        """
        Have it give away the connections and sessions that do not belong to it any more: idle
        connections at once, each other one after the request that is under way.

        :param placement: how many slots there are from now on, and which of them are available;
            or :obj:`None` to have everything go to this worker's successor.
        :return: fires when all is gone that need not wait for a long request; fails if the
            worker dies first.
        """

    def ask_for_app_figures() -> Deferred[object]:
        """
        Have it tell what its application has counted.

        :return: fires when it has; fails if it dies first.
        """

    def count() -> None:
        """
        Add what it has counted since the last time to the figures of its slot.
        """

    def keep(placement: tuple[int, Sequence[int]] | None) -> Deferred[None]:
        """
        Have it keep the clients that it knows, and report those that nothing but its own word
        leads to it: by :meth:`IFleet.learn`.

        :param placement: how clients are placed from now on; or :obj:`None` if a successor
            gets its newcomers.
        :return: fires when it has reported; fails if it dies first.
        """

    def serve_beside(queue: Any) -> None:
        """
        Have it get connections from another queue than its slot's, which its successor has.
        """

    def tell_places(slots: int, available: Sequence[int]) -> None:
        """
        Tell it how clients are placed from now on, so that it knows to which slot a request on
        one of its connections belongs.

        :param slots: how many slots there are.
        :param available: those of them that are available.
        """

    def verify_also(secrets: Sequence[bytes]) -> Deferred[None]:
        """
        Have it accept tokens that are signed with these secrets, beside its own.

        :return: fires when it does, or has died.  It never fails.
        """

    def stay() -> None:
        """
        Have it go on after all, and give nothing away any more: its successor has died
        before it took over.
        """

    def adopt_sessions(chunk: bytes) -> Deferred[None]:
        """
        Have it take over sessions.

        :param chunk: as another worker exported it.
        :return: fires when it has them; fails if it dies first.
        """

    def reopen_log() -> None:
        """
        Have it open its access log again, if it serves.
        """

    def kill() -> None:
        """
        End it now, whatever it does.
        """

    quiet: bool = Attribute("Whether no message to or from it is half done.")

    def dump_state() -> dict[str, Any]:
        """
        Give its state, while ``quiet``, for :meth:`ISpawner.restore` in a primary that has
        replaced its own code.
        """

    def stop(patience: float) -> None:
        """
        Have it finish what is under way and exit; kill it if it has not exited soon
        after ``patience`` seconds.
        """


class ICandidate(Interface):
    """
    A worker that may lead; its text names it in the log.
    """

    def lead(term: int) -> None:
        """
        Have it lead.  Until it has said that it has ended, or is gone, nobody else does.

        :param term: larger than that of any leader before.
        """


class IElection(Interface):
    """
    What decides which worker leads; see :mod:`stickyd.fleet.election`.
    """

    name: str = Attribute("Identifies the fleet among those of all machines, over upgrades too.")

    held: tuple[int, float] = Attribute(
        "What :meth:`hold` was told last, as long as a worker may go on with it; else zeros."
    )

    is_led: bool = Attribute("Whether a worker leads, or is told to.")

    def hold(term: int, until: float) -> None:
        """
        Called when the leader has the lease of all machines.

        :param term: for which it has.
        :param until: when it runs out, by the clock of all processes of this machine.
        """

    def stand(candidate: ICandidate) -> None:
        """
        Called with a worker that may lead from now on.
        """

    def resume(candidate: ICandidate) -> None:
        """
        Called with the worker that has led since before the primary replaced its code.
        """

    def withdraw(candidate: ICandidate) -> None:
        """
        Called with a worker that may not lead any more; if it does, it says when it has ended.
        """

    def ended(candidate: ICandidate) -> None:
        """
        Called with the leader when it has ended to lead.
        """

    def gone(candidate: ICandidate) -> None:
        """
        Called with a worker whose process is gone.
        """


class IFleet(IDestination):
    """
    All slots, as a worker needs to know them.
    """

    app_figures: AppFigures = Attribute("Adds up what the application counts.")

    election: IElection = Attribute("Decides which worker leads.")

    pressed: bool = Attribute(
        "Whether workers should give no connection back for a moment, as too many wait."
    )

    def places() -> tuple[int, list[int]]:
        """
        How clients are placed: how many slots there are, and those of them that are available.
        """

    def adopt_sessions(index: int, chunk: bytes) -> Deferred[None]:
        """
        Give sessions to the worker that has, or is about to take, a slot.

        :return: as :meth:`IWorker.adopt_sessions`; fails at once if there is no such
            worker.
        """

    def claim(index: int, identifiers: Sequence[bytes], generation: int) -> None:
        """
        Remember that clients who send these ids belong to a slot, or to the worker of that
        generation there if it was relieved.

        :param identifiers: of :func:`stickyd.affinity.resolve.learned_id`.
        """

    def learn(
        home: tuple[int, int], keys: Sequence[bytes], ids: Sequence[bytes], gone: bool
    ) -> None:
        """
        Remember whom a worker keeps, or that it keeps them no longer.

        :param home: its slot and generation.
        :param keys: the affinity keys of its clients.
        :param ids: their learned ids.
        :param gone: whether it keeps them no longer.
        """

    def finished(home: tuple[int, int]) -> None:
        """
        Called when a relieved worker has found that it keeps nobody any more.
        """

    def kept() -> tuple[list[tuple[int, int]], bool]:
        """
        Who keeps clients, by slot and generation; and whether some of these clients are known by
        their keys, so that only the primary can tell whose a key is.
        """

    def resolve(handoff: Handoff) -> None:
        """
        Take over a connection, and place it by the request in its ``unread``.
        """
