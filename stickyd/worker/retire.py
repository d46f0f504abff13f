"""
Giving away what is not this worker's any more: connections and sessions.

A worker does so when a successor relieves it (everything goes), and when the number of
slots changes (what another slot owns from now on goes).  Connections go as handoffs, by
the way that they came; sessions go in chunks on the control channel.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.logger import Logger

from stickyd.handoff.frame import BY_KEY, MAX_UNREAD_BYTES, Handoff

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from socket import socket

    from twisted.python.failure import Failure

    from stickyd.handoff.channel import HandoffChannel
    from stickyd.interfaces import IHost, IPlacement
    from stickyd.sessions.registry import SessionRegistry


#: Seconds that sessions wait for requests that have not begun to answer.  What takes longer
#: is finished here, while the others are served where they belong.
REQUEST_SECONDS = 2.0


class Retirement:
    """
    Gives away.

    :ivar slot: the slot that this worker occupies; -1 for a spare.
    :ivar target_of: the slot of a key; ours, until we are told where the others' are.
    """

    _log = Logger()

    def __init__(
        self,
        host: IHost,
        sessions: SessionRegistry,
        channel: HandoffChannel,
        send_sessions: Callable[[int, bytes], Deferred[None]],
        place: Callable[[int, Sequence[int], int], IPlacement],
        slot: int,
    ) -> None:
        """
        :param place: makes the placement over a number of slots of which some stand, as
            far as the worker in one of them can know it.
        :param send_sessions: sends a chunk to the worker of a slot; fires when it has it.
        """
        self._host = host
        self._sessions = sessions
        self._channel = channel
        self._send_sessions = send_sessions
        self._place = place
        self.slot = slot
        self._waiting: deque[Handoff] = deque()
        self._walks = DeferredLock()
        self._next_walk: Deferred[None] | None = None
        # Connections that wait for a walk.
        self._giving = 0
        self.target_of: Callable[[bytes], int] = lambda key: self.slot
        self._everything = False
        self._settled: list[Deferred[None]] = []

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
            self.target_of = self._place(slots, standing, self.slot).slot_of
        quiet = self._host.release(lambda handoff: self._goes(handoff.key), self._give)
        quiet.addTimeout(REQUEST_SECONDS, self._sessions.clock)
        quiet.addErrback(_expect_timeout)
        return quiet.addCallback(lambda _: self._carry_sessions()).addCallback(self._carry_late)

    def divert(self, handoff: Handoff) -> bool:
        """
        Give a connection that has come too late straight to the successor.

        :return: :obj:`False` if it is ours to serve.
        """
        if not self._everything:
            return False
        handoff.slot = self.slot
        self._waiting.append(handoff)
        self.room()
        return True

    def stay(self) -> None:
        """
        Give nothing away any more: there is no successor after all.
        """
        self._everything = False
        self._target_of = lambda key: self.slot

    def _goes(self, key: bytes) -> bool:
        return self._everything or self.target_of(key) != self.slot

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
        if len(unread) > MAX_UNREAD_BYTES:
            self._log.warn(
                "A connection of {host} is closed: {size} bytes of it wait to be read, more"
                " than can be handed over",
                host=came.host,
                size=len(unread),
            )
            sock.close()
            return
        slot = self.slot if self._everything else BY_KEY
        handoff = Handoff(sock.detach(), came.host, came.port, came.key, unread, slot)
        self._giving += 1
        # The session that its last request used must be there before it is.
        self._carry_sessions().addCallback(lambda _: self._carried(handoff))

    def _carried(self, handoff: Handoff) -> None:
        self._giving -= 1
        self.pass_on(handoff)

    def pass_on(self, handoff: Handoff) -> None:
        """
        Send a connection to the primary, for whom it belongs to.
        """
        self._waiting.append(handoff)
        self.room()

    def returned(self, handoff: Handoff) -> None:
        """
        Called with a connection that the primary had no descriptor free for.
        """
        self._waiting.appendleft(handoff)

    def room(self) -> None:
        """
        Called when the primary takes more.
        """
        while self._waiting and self._channel.send(self._waiting[0]):
            self._waiting.popleft()
        under_way = self._giving or self._waiting or self._channel.in_flight
        if self._settled and not under_way:
            settled, self._settled = self._settled, []
            for waiting in settled:
                waiting.callback(None)

    def settled(self) -> Deferred[None]:
        """
        Wait for what is on its way.

        :return: fires when the primary has everything that was given away.
        """
        # The walk comes first: connections wait for it.
        return self._carry_sessions().addCallback(lambda _: self._all_passed_on())

    def _all_passed_on(self) -> Deferred[None]:
        gone: Deferred[None] = Deferred()
        self._settled.append(gone)
        self.room()
        return gone

    def give_up(self) -> None:
        """
        Called when the primary is dead: nobody will take what waits, or ask for sessions.
        """
        settled, self._settled = self._settled, []
        for waiting in settled:
            waiting.callback(None)


def _expect_timeout(failure: Failure) -> None:
    failure.trap(DeferredTimeoutError)
