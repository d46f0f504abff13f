"""
Sessions that leave, those that follow, and those that have come too late.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from stickyd.sessions.answers import result_of
from stickyd.sessions.live import LiveSession
from stickyd.sessions.record import EndReason
from stickyd.sessions.registry import FOLLOW_LEASE_SECONDS, SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.sessions.transfer import followers, notices
from stickyd.worker.session_moves import FOLLOW_SECONDS, NOTICE_SECONDS, SessionMoves
from tests.hosting import logged


class Rig:
    """
    A worker whose sessions all go to slot 1, but those of the key ``stays``.

    :ivar sent: the chunks of sessions that were sent.
    :ivar noticed: the ids in each notice of sessions that will follow.
    :ivar answers: what each is answered with, at once if there is none.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.sessions = SessionRegistry(MemorySessionStore(self.clock), self.clock)
        self.sent: list[bytes] = []
        self.noticed: list[set[bytes]] = []
        self.under_way = 0
        self.answers: list[Deferred[None]] = []
        self.moves = SessionMoves(
            self.sessions, self.send, lambda key, client, touched: None if key == b"stays" else 1
        )

    def send(self, slot: int, chunk: bytes) -> Deferred[None]:
        """
        Called with what goes.
        """
        assert slot == 1
        uids = followers(chunk)
        if uids is not None:
            self.noticed.append(set(uids))
            return succeed(None)
        # The primary ends a worker that sends many at a time.
        assert not self.under_way
        self.sent.append(chunk)
        if not self.answers:
            return succeed(None)
        self.under_way += 1
        return self.answers.pop(0).addBoth(self._answered)

    def _answered(self, result: Any) -> Any:
        self.under_way -= 1
        return result

    def session(self, key: bytes = b"goes") -> LiveSession:
        """
        Make a session.
        """
        live = self.sessions.create(key)
        live.save()
        return live

    def stop(self) -> None:
        """
        Leave no timer behind.
        """
        self.moves.end()
        self.clock.advance(NOTICE_SECONDS)
        self.sessions.stop()
        assert not self.clock.getDelayedCalls()


def test_fault_10_held_session_follows_when_it_is_let_go_of() -> None:
    """
    Fault 10: the walk leaves what a request holds; that follows alone, without waiting for
    what another request holds, and who lets go of it hears when it has arrived.
    """
    rig = Rig()
    rig.moves.begin(True)
    quick, slow, free = rig.session(), rig.session(), rig.session()
    quick.hold()
    slow.hold()
    rig.moves.carry_all()
    assert free.ended is EndReason.MOVED
    assert len(rig.sent) == 1
    answer: Deferred[None] = Deferred()
    rig.answers.append(answer)
    arrived = rig.sessions.let_go(quick)
    assert arrived is not None
    assert rig.sessions.has_moved(quick.uid)
    assert quick.uid in rig.sent[1]
    assert slow.uid not in rig.sent[1]
    assert not arrived.called
    answer.callback(None)
    result_of(arrived)
    slow.release()
    assert slow.uid in rig.sent[2]
    rig.stop()


def test_fault_10_two_requests_of_one_session() -> None:
    """
    Fault 10: a session stays until the last request has let go of it.
    """
    rig = Rig()
    rig.moves.begin(True)
    live = rig.session()
    live.hold()
    live.hold()
    rig.moves.carry_all()
    assert rig.sessions.let_go(live) is None
    assert rig.sent == []
    answer: Deferred[None] = Deferred()
    rig.answers.append(answer)
    arrived = rig.sessions.let_go(live)
    assert len(rig.sent) == 1
    assert arrived is not None
    assert not arrived.called
    answer.callback(None)
    rig.stop()


def test_fault_10_nobody_waits_for_ever() -> None:
    """
    Fault 10: a response waits no longer than so, and goes on if the session could not be sent.
    """
    rig = Rig()
    rig.moves.begin(True)
    live = rig.session()
    rig.answers.append(Deferred())
    arrived = rig.moves.follow(live)
    assert arrived is not None
    rig.clock.advance(FOLLOW_SECONDS)
    assert arrived.called
    rig.stop()


def test_session_that_cannot_be_sent_is_kept() -> None:
    """
    It is here again, which is better than nowhere.
    """
    rig = Rig()
    live = rig.session()
    rig.answers.append(fail(RuntimeError("no worker")))
    with logged() as events:
        arrived = rig.moves.follow(live)
    assert arrived is not None
    assert arrived.called
    assert rig.sessions.find(live.uid) is not None
    assert "could not be given away" in str(events[-1]["log_format"])
    rig.stop()


def test_what_stays() -> None:
    """
    What belongs here stays, and once there is no successor after all, so does everything.
    """
    rig = Rig()
    rig.moves.begin(True)
    assert rig.sessions.let_go(rig.session(b"stays")) is None
    rig.moves.end()
    assert rig.sessions.let_go(rig.session()) is None
    assert rig.sent == []
    rig.stop()


def test_late_arrivals_go_on() -> None:
    """
    What has come here too late goes where it belongs by now; the others stay.
    """
    rig, other = Rig(), Rig()
    goes, stays = other.session(), other.session(b"stays")
    (chunk,) = other.sessions.export_batches()
    assert rig.moves.take_in(chunk).called
    assert len(rig.sent) == 1
    assert goes.uid in rig.sent[0]
    assert rig.sessions.has_moved(goes.uid)
    assert rig.sessions.find(stays.uid) is not None
    rig.stop()
    other.stop()


def test_fault_10_many_follow_one_message_at_a_time() -> None:
    """
    Fault 10: however many requests end at once, no more than one message is on its way, and what
    has gathered meanwhile shares the next.
    """
    rig = Rig()
    rig.moves.begin(True)
    lives = [rig.session() for _ in range(50)]
    for live in lives:
        live.hold()
    rig.moves.carry_all()
    answers: list[Deferred[None]] = [Deferred(), Deferred()]
    rig.answers = list(answers)
    arrived = [rig.sessions.let_go(live) for live in lives]
    assert len(rig.sent) == 1
    answers[0].callback(None)
    assert len(rig.sent) == 2
    assert all(live.uid in rig.sent[1] for live in lives[1:])
    answers[1].callback(None)
    assert all(each is None or each.called for each in arrived)
    rig.stop()


def test_fault_10_who_gets_a_session_later_is_told_so() -> None:
    """
    Fault 10: the walk is done when the next worker knows which sessions will follow; it is told
    again until they have.
    """
    rig = Rig()
    rig.moves.begin(True)
    held, stays = rig.session(), rig.session(b"stays")
    held.hold()
    stays.hold()
    rig.moves.carry_all()
    assert rig.noticed == [{held.uid}]
    rig.clock.advance(NOTICE_SECONDS)
    assert rig.noticed == [{held.uid}] * 2
    held.release()
    rig.clock.advance(NOTICE_SECONDS)
    assert len(rig.noticed) == 2
    rig.stop()


def test_nothing_follows_when_all_is_answered() -> None:
    """
    After a change of the placement requests cost what they did, as soon as none is under way
    that was begun before.
    """
    rig = Rig()
    rig.moves.begin(False)
    held = rig.session()
    held.hold()
    rig.moves.carry_all()
    rig.moves.end_soon()
    assert rig.sent == []
    held.release()
    assert held.uid in rig.sent[0]
    assert not rig.sessions.forwards
    rig.stop()


def test_fault_10_what_was_announced_here_is_announced_further() -> None:
    """
    Fault 10: a worker that is relieved before a session has come which was announced to it tells
    its own successor of it at once.
    """
    rig = Rig()
    (notice,) = notices({b"late": b"goes", b"other": b"stays"})
    rig.moves.take_in(notice)
    rig.moves.begin(True)
    rig.moves.carry_all()
    assert rig.noticed == [{b"late"}]
    rig.clock.advance(FOLLOW_LEASE_SECONDS)
    noticed = len(rig.noticed)
    rig.clock.advance(10 * NOTICE_SECONDS)
    assert len(rig.noticed) == noticed
    rig.stop()


def test_fault_10_notices_never_come_behind_their_sessions() -> None:
    """
    Fault 10: whoever gets a session hears of it before it comes, and never after: clients would
    wait for what is there.
    """
    clock = Clock()
    sessions = SessionRegistry(MemorySessionStore(clock), clock)
    sent: list[tuple[bytes, bool]] = []
    answers: list[Deferred[None]] = []

    def send(slot: int, chunk: bytes) -> Deferred[None]:
        uids = followers(chunk)
        named = [live.uid for live in (first, second) if live.uid in (uids or chunk)]
        sent.extend((uid, uids is None) for uid in named)
        answers.append(Deferred())
        return answers[-1]

    moves = SessionMoves(sessions, send, lambda key, client, touched: int(key))
    moves.begin(True)
    first, second = sessions.create(b"1"), sessions.create(b"2")
    for live in (first, second):
        live.save()
        live.hold()
    moves.carry_all()
    # The notice for one worker is on its way when a session for the other is let go of.
    sessions.let_go(second)
    answers.pop(0).callback(None)
    while answers:
        clock.advance(NOTICE_SECONDS)
        answers.pop(0).callback(None)
        if sent[-1] == (second.uid, True):
            break
    clock.advance(NOTICE_SECONDS)
    sessions.let_go(first)
    while answers:
        answers.pop(0).callback(None)
    for live in (first, second):
        kinds = [is_session for uid, is_session in sent if uid == live.uid]
        assert kinds[0] is False
        assert kinds[-1] is True
        assert sum(kinds) == 1
    moves.end()
    clock.advance(NOTICE_SECONDS)
    sessions.stop()


def test_fault_10_two_workers_do_not_wait_for_each_other() -> None:
    """
    Fault 10: each sends the other a session that belongs, by the map of who gets it, to the
    sender.  Each is told that its own has come, and both go back.
    """
    rigs = [Rig(), Rig()]
    out: list[tuple[int, bytes, Deferred[None]]] = []

    def sender(number: int) -> Any:
        def send(_: int, chunk: bytes) -> Deferred[None]:
            out.append((number, chunk, Deferred()))
            return out[-1][2]

        return send

    for number, rig in enumerate(rigs):
        rig.moves = SessionMoves(rig.sessions, sender(number), lambda key, client, touched: 1)
        rig.moves.begin(True)
        rig.session()
        rig.moves.carry_all()
    answers = []
    for number, chunk, answer in out[:2]:
        answers.append(rigs[1 - number].moves.take_in(chunk).addCallback(answer.callback))
    # They go back at once, past what still waits for its answer.
    assert {number for number, _, _ in out[2:]} == {0, 1}
    assert not any(answer.called for answer in answers)
    # And if their answers do not come, nobody waits for those without end.
    for rig in rigs:
        rig.clock.advance(FOLLOW_SECONDS)
    assert all(answer.called for answer in answers)
    for _, _, answer in out[2:]:
        answer.callback(None)
    for rig in rigs:
        rig.stop()
