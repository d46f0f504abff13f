"""
Carrying sessions to the workers that own them from now on.

All that no request can ask for any more leave in one walk over the store.  The others are
held by their requests, each until its response is about to begin, and then follow one by
one; the response waits for that, so its client's next request finds the session where it
belongs.  A store that belongs to the slot is handed over as a whole to the next worker of it, and
only what is held follows (:class:`stickyd.sessions.interfaces.ISlotStore`).

Meanwhile the worker that gets them is told which those are, so that other requests
of their clients wait there (:mod:`stickyd.sessions.awaited`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredLock,
    fail,
    gatherResults,
    succeed,
)
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyd.errors import StoreAway
from stickyd.sessions.record import UNKNOWN_CLIENT
from stickyd.sessions.transfer import CHUNK, fits, join, line_pair, notices, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.interfaces import IDelayedCall

    from stickyd.sessions.interfaces import ICarriedStore
    from stickyd.sessions.live import LiveSession
    from stickyd.sessions.record import SessionRecord
    from stickyd.sessions.registry import SessionRegistry

#: Seconds that a response waits for its session to arrive where it belongs.
FOLLOW_SECONDS = 2.0

#: The same of a session that outlives its worker, and so waits for a successor of that too.
FOLLOW_SECONDS_STORED = 30.0

#: Seconds between two notices of a session that will follow.
NOTICE_SECONDS = 2.0

#: Seconds between two attempts to send a session that its worker could not take, and how many
#: there are: a successor starts meanwhile.
RETRY_SECONDS = 1.0
MOST_TRIES = 30

_BATCH = 256  # records looked at in one go


class SessionMoves:
    """
    Has sessions leave this worker.
    """

    _log = Logger()

    def __init__(
        self,
        sessions: SessionRegistry,
        send: Callable[[int, bytes], Deferred[None]],
        destination: Callable[[bytes, bytes, float], int | None],
    ) -> None:
        """
        :param send: sends a chunk to the worker of a slot; fires when it has it.
        :param destination: tells the slot that a session goes to, or :obj:`None` if it stays, by
            the identity of its client, by what that is known by, and by when it was used last.
        """
        self._sessions = sessions
        self._send = send
        self._destination = destination
        self._walks = DeferredLock()
        self._next_walk: Deferred[None] | None = None
        # One message at a time: the primary takes no more than a few of one worker.
        self._sending = DeferredLock()
        # And one more of what has come here too late: what we send may wait for its answer.
        self._passing = DeferredLock()
        # Who waits for a session that is on its way, by its id.
        self._under_way: dict[bytes, list[Deferred[None]]] = {}
        # No request holds them any more, and they are not sent yet.
        self._followers: list[tuple[bytes, LiveSession]] = []
        self._follows = False
        # Those that could not be sent, and are tried again later, by id; and how often they were.
        self._put_off: dict[bytes, LiveSession] = {}
        self._tries: dict[bytes, int] = {}
        self._ends = self._has_begun = self._in_turns = False
        # A request holds them, and they are to follow.
        self._late: set[LiveSession] = set()
        self._next_notice: IDelayedCall | None = None

    def begin(self, everything: bool, in_turns: bool = False) -> None:
        """
        Have sessions follow as soon as requests let go of them.

        :param everything: whether all of them go.
        :param in_turns: whether clients are served between the parts of a walk, as few go.
        """
        self._ends = False
        self._in_turns = in_turns
        self._has_begun = True
        self._sessions.forward(self.follow, everything)

    def end(self) -> None:
        """
        Have none follow any more, as all stay.
        """
        self._sessions.forward(None)
        self._sessions.take_back()

    def end_soon(self) -> None:
        """
        The same, when those that are held have gone: no other request is under way that has
        anything to do with what goes.
        """
        self._ends = True
        self._look_whether_done()

    def _look_whether_done(self) -> None:
        if self._ends and not self._late and not self._under_way:
            self._sessions.forward(None)

    def carry_all(self) -> Deferred[None]:
        """
        Carry every session that goes and that no request uses, as they are from now on.

        One walk over the store goes on at a time; calls meanwhile share the next one.

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

    def claim_leftovers(self, slots: int) -> Deferred[None]:
        """
        Take in the sessions that slots have left that there are not any more.

        :return: fires when they are here; never fails.
        """
        return self._sessions.claim_leftovers(slots).addErrback(self._tell_failure)

    def take_in(self, chunk: bytes) -> Deferred[None]:
        """
        Take in sessions that another worker has carried here.  Those that belong elsewhere by
        now go on: they were late, and the slots have changed meanwhile.

        :return: fires when they are where they belong, but no later than
            :data:`FOLLOW_SECONDS` after they were here: two workers that have sessions for
            each other would else wait for each other's answers; fails as
            :meth:`stickyd.sessions.registry.SessionRegistry.import_chunk`.
        """
        return Deferred.fromCoroutine(self._take_in(chunk))

    def follow(self, live: LiveSession) -> Deferred[None] | None:
        """
        Carry one session.

        :return: fires when its worker has it, but no later than after
            :data:`FOLLOW_SECONDS`; never fails.  (What a store has promised to keep is stored
            before that.)  :obj:`None` if it stays, because it belongs here, or another request
            holds it.
        """
        uid = live.uid
        waiting: Deferred[None] = Deferred()
        if uid in self._under_way:
            self._under_way[uid].append(waiting)
        elif live.held or live.ended is not None or self._target_of(live) is None:
            return None
        else:
            self._under_way[uid] = [waiting]
            self._followers.append((uid, live))
            if not self._follows:
                Deferred.fromCoroutine(self._carry_followers())
        immediate = self._sessions.store.immediate
        seconds = FOLLOW_SECONDS if immediate else FOLLOW_SECONDS_STORED
        waiting.addTimeout(seconds, self._sessions.clock)
        return waiting.addErrback(_expect_timeout)

    def _arrived(self, uid: bytes) -> None:
        for waiting in self._under_way.pop(uid):
            if not waiting.called:
                waiting.callback(None)

    def _tell_failure(self, failure: Failure) -> None:
        self._log.failure("Sessions could not be given away", failure, event="session.not-moved")

    def _walk(self) -> Deferred[None]:
        walk, self._next_walk = self._next_walk, None
        assert walk is not None
        return (
            Deferred.fromCoroutine(self._carry())
            .addErrback(self._tell_failure)
            .addCallback(self._watch_late)
            # First, as newcomers are let in when the walk is done.
            .addCallback(self._give_notice)
            .addCallback(walk.callback)
        )

    async def _carry(self) -> None:
        store = self._sessions.carried
        if store is None:
            return
        if self._sessions.relieved and await self._sessions.hand_over(self._forward):
            return
        if self._in_turns or not store.immediate:
            await self._carry_in_turns(store)
            return
        targets = {
            target
            for batch in store.enumerate(_BATCH)
            for record in await batch
            if (target := self._target_of(record)) is not None
        }
        for target in targets:
            chunks = self._sessions.export_batches(
                lambda record, target=target: self._target_of(record) == target  # type: ignore[misc]  # a default binds it
            )
            await self._send_all(target, chunks, self._sending)

    def _target_of(self, session: SessionRecord | LiveSession) -> int | None:
        return self._destination(session.key, session.client, session.touched)

    async def _carry_in_turns(self, store: ICarriedStore) -> None:
        if not self._has_begun:
            return  # nobody has told us of others: a look at every record is saved
        for batch in store.enumerate(_BATCH):
            by_target: dict[int, list[bytes]] = {}
            for record in await batch:
                target = self._target_of(record)
                if target is not None:
                    by_target.setdefault(target, []).append(record.uid)
            for target, uids in by_target.items():
                await self._carry_to(target, uids, self._sending)
            if self._in_turns:
                await deferLater(self._sessions.clock, 0)

    async def _carry_to(self, target: int, uids: list[bytes], lock: DeferredLock) -> None:
        """
        Carry sessions to the worker of a slot, but for those that are held.
        """
        if self._sessions.store.immediate:
            await self._send_all(target, self._sessions.export_batches(uids=uids), lock)
            return

        async def send(chunk: bytes) -> None:
            await lock.run(self._send, target, chunk)

        await self._sessions.late_export(send).carry(uids)

    def _forward(self, record: SessionRecord) -> Deferred[None]:
        """
        Have the worker of a session store a change of it, once the store was handed over.
        """
        target = self._target_of(record)
        if target is None:
            return fail(StoreAway("this worker has handed its sessions over"))
        return Deferred.fromCoroutine(self._send_record(target, record)).addErrback(_away)

    async def _send_record(self, target: int, record: SessionRecord) -> None:
        pair = line_pair(record)
        chunks = [join([pair])] if fits(len(pair), CHUNK) else list(split(record, CHUNK))
        for chunk in chunks:
            await self._sending.run(self._send, target, chunk)

    async def _take_in(self, chunk: bytes) -> None:
        further: dict[int, list[bytes]] = {}
        for record in await self._sessions.take_in(chunk):
            target = self._target_of(record)
            if target is not None:
                further.setdefault(target, []).append(record.uid)
        if not further:
            return
        waiting: Deferred[None] = Deferred()

        def passed_on(_: object) -> None:
            if not waiting.called:
                waiting.callback(None)

        Deferred.fromCoroutine(self._pass_on(further)).addBoth(passed_on)
        waiting.addTimeout(FOLLOW_SECONDS, self._sessions.clock)
        await waiting.addErrback(_expect_timeout)

    async def _pass_on(self, further: dict[int, list[bytes]]) -> None:
        for target, uids in further.items():
            try:
                await self._carry_to(target, uids, self._passing)
            except Exception:  # noqa: BLE001 - they are here, which is what was asked
                self._log.failure("Sessions could not be passed on", event="session.not-moved")

    async def _carry_followers(self) -> None:
        self._follows = True
        while self._followers:
            followers, self._followers = self._followers, []
            by_target: dict[int, list[bytes]] = {}
            for uid, live in followers:
                target = self._target_of(live)
                if target is not None:
                    by_target.setdefault(target, []).append(uid)
            failed: set[bytes] = set()
            for target, uids in by_target.items():
                try:
                    await self._carry_to(target, uids, self._sending)
                except Exception:  # noqa: BLE001 - the others shall go nevertheless
                    self._log.failure("Sessions could not be given away", event="session.not-moved")
                    failed.update(uids)
            self._carry_later([each for each in followers if each[0] in failed])
            for uid, _ in followers:
                if uid not in failed:
                    self._tries.pop(uid, None)
                if uid not in self._tries:
                    self._arrived(uid)
            # Somebody may have taken hold of one meanwhile.
            self._watch_late(None)
        self._follows = False
        self._look_whether_done()

    def _carry_later(self, followers: list[tuple[bytes, LiveSession]]) -> None:
        """
        Try again, while their responses wait: what a store outlives its worker for is worth it.
        """
        if self._sessions.store.immediate or not followers:
            return
        again = []
        for uid, live in followers:
            tries = self._tries[uid] = self._tries.get(uid, 0) + 1
            if tries < MOST_TRIES:
                again.append((uid, live))
                self._put_off[uid] = live
            else:
                del self._tries[uid]

        def try_again() -> None:
            for uid, _ in again:
                del self._put_off[uid]
            self._followers += again
            if not self._follows:
                Deferred.fromCoroutine(self._carry_followers())

        if again:
            self._sessions.clock.callLater(RETRY_SECONDS, try_again)

    async def _send_all(self, target: int, chunks: Iterator[bytes], lock: DeferredLock) -> None:
        for chunk in chunks:
            try:
                await lock.run(self._send, target, chunk)
            except Exception:
                # They are back here: better than nowhere.
                await self._sessions.import_chunk(chunk)
                raise

    def _watch_late(self, _: object) -> None:
        """
        Have the sessions that are still held follow, each when it is let go of.
        """
        for live in self._sessions.busy(lambda live: self._target_of(live) is not None):
            if live not in self._late:
                self._late.add(live)
                live.when_released().addCallback(self._released, live)

    def _give_notice(self, _: object = None) -> Deferred[None]:
        """
        Tell the workers that get them which sessions will follow, and go on doing so.

        :return: fires when they know; never fails.
        """
        if self._next_notice is not None:
            self._next_notice.cancel()
            self._next_notice = None
        announced = self._late or self._put_off or self._sessions.awaited.keys
        if not self._sessions.forwards or not announced:
            return succeed(None)
        self._next_notice = self._sessions.clock.callLater(NOTICE_SECONDS, self._notice_again)
        return Deferred.fromCoroutine(self._send_notices()).addErrback(
            lambda _: None  # it is told anyway that there is no worker to take sessions
        )

    def _notice_again(self) -> None:
        self._next_notice = None
        self._give_notice()

    async def _send_notices(self) -> None:
        # Those that another worker has announced to us, and will send past us.
        going = {
            uid: (key, self._destination(key, UNKNOWN_CLIENT, 0.0))
            for uid, key in self._sessions.awaited.keys.items()
        }
        # Also those that could not be sent yet: who gets them now may be another than before.
        ours = {live.uid: live for live in self._late if live.ended is None} | self._put_off
        going |= {uid: (live.key, self._target_of(live)) for uid, live in ours.items()}
        by_target: dict[int, dict[bytes, bytes]] = {}
        for uid, (key, target) in going.items():
            if target is not None:
                by_target.setdefault(target, {})[uid] = key
        # All of them now: a notice that came behind its session would have clients wait for one
        # that is there.
        sent = [
            self._sending.run(self._send, target, notice)
            for target, announced in by_target.items()
            for notice in notices(announced)
        ]
        await gatherResults(sent, consumeErrors=True)

    def _released(self, _: object, live: LiveSession) -> None:
        self._late.discard(live)
        if self._sessions.forwards:
            self.follow(live)
            self._look_whether_done()


def _away(failure: Failure) -> Failure:
    return Failure(StoreAway(f"the next worker cannot store it: {failure.getErrorMessage()}"))


def _expect_timeout(failure: Failure) -> None:
    # addTimeout() cancels; what was cancelled is not waited for, but goes on.
    failure.trap(DeferredTimeoutError, CancelledError)
