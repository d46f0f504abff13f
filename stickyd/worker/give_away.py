"""
Giving away what is not this worker's any more: connections and sessions.

A worker does so when a successor relieves it (everything goes), and when the number of
slots changes (what another slot owns from now on goes).  Connections go as handoffs, by
the way that they came; sessions go in chunks on the control channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.logger import Logger

from stickyd.affinity.client_identity import identity_of
from stickyd.handoff.frame import BY_KEY, Flag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from socket import socket

    from twisted.python.failure import Failure

    from stickyd.handoff.frame import Handoff
    from stickyd.interfaces import IHost
    from stickyd.sessions.registry import SessionRegistry
    from stickyd.worker.outbox import Outbox
    from stickyd.worker.slot_map import SlotMap

#: Seconds that sessions wait for requests that have not begun to answer.  What takes longer
#: is finished here, while the others are served where they belong.
REQUEST_SECONDS = 2.0


class Retirement:
    """
    Gives away.

    :ivar target_of: the slot of an identity; ours, until we are told where the others' are.
    :ivar leaving: whether this worker finishes, and shall begin nothing that goes.
    """

    _log = Logger()

    def __init__(
        self,
        host: IHost,
        sessions: SessionRegistry,
        outbox: Outbox,
        send_sessions: Callable[[int, bytes], Deferred[None]],
        places: SlotMap,
    ) -> None:
        """
        :param send_sessions: sends a chunk to the worker of a slot; fires when it has it.
        """
        self._host = host
        self._sessions = sessions
        self._outbox = outbox
        self._send_sessions = send_sessions
        self._places = places
        self._walks = DeferredLock()
        self._next_walk: Deferred[None] | None = None
        self.target_of: Callable[[bytes], int] = lambda identity: self.slot
        self._everything = self.leaving = False

    @property
    def slot(self) -> int:
        """
        The slot that this worker occupies; -1 for a spare.
        """
        return self._places.slot

    @slot.setter
    def slot(self, slot: int) -> None:
        self._places.occupy(slot)

    def release(self, slots: int, standing: Sequence[int]) -> Deferred[None]:
        """
        Give away what the new placement gives to others.

        :param slots: how many slots there are from now on; 0 to give everything to the
            successor in our own slot.
        :param standing: those of them that stand.
        :return: fires when the sessions are where they belong, which is soon: requests
            that take longer than :data:`REQUEST_SECONDS` are finished here, and what they
            hold follows.
        """
        self._everything = slots == 0
        if slots:
            self._places.update(slots, standing)
            self.target_of = self._places.home_of
        quiet = self._host.release(lambda came: self._goes(identity_of(came)), self._give)
        quiet.addTimeout(REQUEST_SECONDS, self._sessions.clock)
        quiet.addErrback(_expect_timeout)
        return quiet.addCallback(lambda _: self._carry_sessions()).addCallback(self._carry_late)

    def divert(self, handoff: Handoff) -> bool:
        """
        Give a connection that has come too late straight to the successor, or to where it
        belongs.

        :return: :obj:`False` if it is ours to serve.
        """
        if not (self._everything or (self.leaving and self._goes(identity_of(handoff)))):
            return False
        self._outbox.send(handoff)
        return True

    def stay(self) -> None:
        """
        Give nothing away any more: there is no successor after all.
        """
        self._everything = False
        self.target_of = lambda identity: self.slot

    def _goes(self, identity: bytes) -> bool:
        return self._everything or self.target_of(identity) != self.slot

    # sessions

    def _carry_sessions(self) -> Deferred[None]:
        """
        Carry every session that goes and that no request uses, as they are from now on.

        One walk over the store at a time; who asks while one goes on shares the next.

        :return: fires when the walk is done, or has failed and was logged.
        """
        done: Deferred[None] = Deferred()
        if self._next_walk is not None:
            self._next_walk.addCallback(done.callback)
            return done
        self._next_walk = Deferred()
        self._next_walk.addCallback(done.callback)
        self._walks.run(self._walk)
        return done

    def _walk(self) -> Deferred[None]:
        walk, self._next_walk = self._next_walk, None
        assert walk is not None
        return (
            Deferred.fromCoroutine(self._carry())
            .addErrback(
                lambda failure: self._log.failure("Sessions could not be given away", failure)
            )
            .addCallback(walk.callback)
        )

    async def _carry(self) -> None:
        targets = {self.slot} if self._everything else {
            target
            for batch in self._sessions.store.enumerate(256)
            for record in await batch
            if (target := self.target_of(record.key)) != self.slot
        }  # fmt: skip
        for target in targets:
            for chunk in self._sessions.export_batches(
                lambda record, target=target: (
                    self._everything  # type: ignore[misc]
                    or self.target_of(record.key) == target
                )
            ):
                try:
                    await self._send_sessions(target, chunk)
                except Exception:
                    # They are back here: better than nowhere.
                    await self._sessions.import_chunk(chunk)
                    raise

    def _carry_late(self, _: object) -> None:
        """
        Have the sessions that requests still use follow when these are done.
        """
        busy = self._sessions.busy(lambda live: self._goes(live.key))
        if busy:
            self._sessions.when_released(busy).addCallback(
                lambda _: self._carry_sessions()
            ).addCallback(self._carry_late)

    # connections

    def _give(self, sock: socket, unread: bytes, came: Handoff) -> None:
        slot, flags = came.slot, 0
        if self._everything:
            # The slot has but another worker, so what was said of the next request holds.
            flags = came.flags & Flag.PLACED
        elif slot != BY_KEY:
            # Its slot does not stand any more: it follows its session.
            slot = self.target_of(identity_of(came))
        handoff = self._outbox.pack(sock, unread, came, slot, came.key, flags)
        if handoff is not None:
            # The session that its last request used must be there before it is.
            self._outbox.send_after(self._carry_sessions(), handoff)

    def settled(self) -> Deferred[None]:
        """
        Wait for what is on its way.

        :return: fires when the primary has everything that was given away.
        """
        # The walk comes first: connections wait for it.
        return self._carry_sessions().addCallback(lambda _: self._outbox.when_empty())


def _expect_timeout(failure: Failure) -> None:
    failure.trap(DeferredTimeoutError)
