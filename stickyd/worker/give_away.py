"""
Giving away what is not this worker's any more: connections and sessions.

A worker does so when a successor relieves it (everything goes), and when the number of
slots changes (what another slot owns from now on goes).  Connections go as handoffs, by
the way that they came; sessions go in chunks on the control channel.

One that keeps the clients that it knows keeps their connections and sessions, and gives away the
sessions of all others: they are those of clients that were elsewhere, that have been silent for too
long, or that the application has released.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError

from stickyd.handoff.frame import BY_KEY, Flag
from stickyd.worker.session_moves import SessionMoves

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
#: is finished here, with the sessions that it may ask for, while the others are served where
#: they belong.
REQUEST_SECONDS = 2.0


class Retirement:
    """
    Gives away the connections and sessions that are not this worker's any more.

    :ivar target_of: tells the slot of an identity: our own, until we are told a placement.
    """

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
        self._clock = sessions.clock
        self._outbox = outbox
        self._places = places
        self._changes = self._releases = 0
        self._moves = SessionMoves(sessions, send_sessions, self._destination)
        self.target_of: Callable[[bytes], int] = lambda identity: self.slot
        self._everything = self._leaving = False
        # Whether the client of a session is kept here; if not None, the sessions of others go.
        self._keeps: Callable[[bytes, float], bool] | None = None
        self._has_heir = False

    @property
    def slot(self) -> int:
        """
        The slot that this worker occupies; -1 for a spare.
        """
        return self._places.slot

    def release(self, slots: int, available: Sequence[int]) -> Deferred[None]:
        """
        Give away what the new placement gives to others.

        :param slots: how many slots there are from now on; 0 to give everything to the
            successor in our own slot.
        :param available: those of them that are available.
        :return: fires when the sessions are where they belong, which is soon: requests
            that take longer than :data:`REQUEST_SECONDS` are finished here, and what they
            hold follows.
        """
        self._everything = self._has_heir = slots == 0
        self._keeps = None
        self._changes = self._places.changes
        self._moves.begin(self._everything)
        self._releases = number = self._releases + 1
        if slots:
            self._places.update(slots, available)
            self.target_of = self._places.home_of
        quiet = self._host.give_away(lambda handoff: self._goes(handoff.identity), self._give)
        waiting: Deferred[None] = Deferred()

        def answered(_: object) -> None:
            if not waiting.called:
                waiting.callback(None)
            if number == self._releases and not self._everything:
                self._moves.end_soon()

        # Not `quiet` itself: that goes on, to tell when all are answered.
        waiting.addTimeout(REQUEST_SECONDS, self._clock)
        quiet.addCallback(answered)
        waiting.addErrback(_expect_timeout)
        if slots:
            waiting.addCallback(lambda _: self._moves.claim_leftovers(slots))
        return waiting.addCallback(lambda _: self._moves.carry_all())

    def keep(
        self, slots: int, available: Sequence[int], keeps: Callable[[bytes, float], bool]
    ) -> Deferred[None]:
        """
        Give away the sessions that the new placement gives to others, but for those of clients
        that are kept here.  Whoever is kept no longer later: see :meth:`carry_strangers`.

        :param slots: as for :meth:`release`.
        :param available: as for :meth:`release`.
        :param keeps: tells whether a client is kept, by what it is known by and by how many
            seconds ago the session was used last.
        :return: fires when the sessions are where they belong.
        """
        self._has_heir = slots == 0
        self._keeps = keeps
        self._releases += 1
        if slots:
            self._places.update(slots, available)
            self.target_of = self._places.home_of
        self._changes = self._places.changes
        self._moves.begin(False, in_turns=True)
        return self.carry_strangers()

    def carry_strangers(self) -> Deferred[None]:
        """
        Give away the sessions of clients that are kept here no longer; connections that move on
        meanwhile follow them.

        :return: fires when the sessions are where they belong; never fails.
        """
        if self._keeps is None:
            return succeed(None)
        carried = self._moves.carry_all()
        self._outbox.hold_movers(carried)
        return carried

    def take_in(self, chunk: bytes) -> Deferred[None]:
        """
        Take in sessions; see :meth:`stickyd.worker.session_moves.SessionMoves.take_in`.
        """
        return self._moves.take_in(chunk)

    def divert(self, handoff: Handoff) -> bool:
        """
        Give a connection that has come too late straight to the successor, or to where it
        belongs.

        :return: :obj:`False` if it is ours to serve.
        """
        if not (self._everything or (self._leaving and self._goes(handoff.identity))):
            return False
        self._outbox.send(handoff)
        return True

    def leave(self) -> None:
        """
        Begin nothing that goes: this worker finishes.
        """
        self._leaving = True

    def stay(self) -> None:
        """
        Give nothing away any more: there is no successor after all.
        """
        self._everything = self._has_heir = False
        self._keeps = None
        self._moves.end()
        self.target_of = lambda identity: self.slot

    def _goes(self, identity: bytes) -> bool:
        return self._everything or self.target_of(identity) != self.slot

    def _destination(self, identity: bytes, client: bytes, touched: float) -> int | None:
        keeps = self._keeps
        if keeps is not None and keeps(client, self._clock.seconds() - touched):
            return None
        if not self._has_heir:
            target = self.target_of(identity)
            return None if target == self.slot else target
        if self._changes == self._places.changes or not identity:
            return self.slot
        # The slots have changed since we were relieved: the successor may not have it.
        return self._places.home_of(identity)

    # connections

    def _give(self, sock: socket, unread: bytes, handoff: Handoff) -> None:
        slot, flags = handoff.slot, 0
        if self._everything:
            # The slot is the same, with another worker: what was said of the next request holds.
            flags = handoff.flags & Flag.PLACED
        elif slot != BY_KEY:
            # Its slot is not available any more: it follows its session.
            slot = self.target_of(handoff.identity)
        packed = self._outbox.pack(sock, unread, handoff, slot, handoff.key, flags)
        if packed is not None:
            # The session that its last request used must be there before it is.
            self._outbox.send_after(self._moves.carry_all(), packed)

    def settled(self) -> Deferred[None]:
        """
        Wait for what is on its way.

        :return: fires when the primary has everything that was given away.
        """
        # The walk comes first: connections wait for it.
        return self._moves.carry_all().addCallback(lambda _: self._outbox.when_empty())


def _expect_timeout(failure: Failure) -> None:
    failure.trap(DeferredTimeoutError, CancelledError)
