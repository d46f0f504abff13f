"""
Who the clients of this worker are, so that it can keep them when it is relieved.

Theory of operation.  A client is known by its *mark*: what a token tells it by, its learned id,
or its affinity key, with a letter before it that says which.  A list of ``--affinity`` that has
an entry for tokens or learned ids marks clients by these alone: what stands behind them there
places newcomers, and many clients may share it.

A client is known from its first request, or from when it is given a token, until it has been
*silent* for so long: it has no connection here, and sends no request.  Which connections are open
is looked at now and then, so that no request pays for it.  One whose session was deleted is known
no longer from its next request on, unless it has another session by then.

A worker that keeps its clients tells the primary of those that only its own word leads to it: by
keys and by learned ids.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall

from stickyd.affinity.client_identity import BY_KEY
from stickyd.affinity.keys import CookieKey
from stickyd.affinity.spec import LearnKey, MintedKey, StampKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.affinity.spec import Affinity
    from stickyd.handoff.frame import Handoff

    #: Tells the primary of keys, of ids, whether they are known no longer, and whether nobody is.
    Tell = Callable[[list[bytes], list[bytes], bool, bool], Deferred[object]]

#: What marks begin with.
KEY, ID, TOKEN = b"k", b"i", b"t"

#: How many clients are named in one message to the primary; a message takes 64 KiB.
_AT_ONCE = 1000
_AT_ONCE_BYTES = 32 * 1024

#: How often open connections are looked at, as a part of the time after which a client is silent.
_LOOKS = 10

#: How often they are at most, in seconds, by a worker that is relieved.
_RELIEVED_SECONDS = 2.0


class KnownClients:
    """
    The clients of this worker.  Bounded: those longest silent are forgotten first.

    :ivar is_relieved: whether newcomers are somebody else's.
    :ivar by_key: whether clients are known by their keys.
    :ivar cut: how many were forgotten for want of room.
    """

    def __init__(
        self,
        clock: IReactorTime,
        affinity: Affinity,
        idle_seconds: float,
        most: int,
        tell: Tell,
    ) -> None:
        """
        :param idle_seconds: how long a client may be silent.
        :param most: how many to remember.
        :param tell: tells the primary; fires when it knows.
        """
        self.is_relieved = self._tells = False
        self.cut = 0
        by_name = (CookieKey, StampKey, MintedKey, LearnKey)
        self.by_key = not any(isinstance(key, by_name) for key in affinity.keys)
        # An address, a path or a minted id may be several clients': the others are not done.
        self._is_alone = not (self.by_key or any(isinstance(k, MintedKey) for k in affinity.keys))
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._most = most
        self._tell = tell
        # Mark to when it was last seen, longest silent first.
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        # Those whose sessions were deleted since their last request.
        self._done: set[bytes] = set()
        # Those that are known no longer, which the primary is not told of yet.
        self._dropped: list[bytes] = []
        self._next_carry_seconds = 0.0
        self._present: Callable[[], Iterable[bytes]] = tuple
        self._carry: Callable[[], Deferred[None]] = lambda: succeed(None)
        self._looking: LoopingCall | None = None

    def begin(
        self, present: Callable[[], Iterable[bytes]], carry: Callable[[], Deferred[None]]
    ) -> None:
        """
        Look now and then who is silent, until :meth:`stop`.

        :param present: gives the marks of clients with open connections.
        :param carry: has the sessions leave of those who are not kept; fires when they have,
            and never fails.
        """
        self._present, self._carry = present, carry
        self._looking = LoopingCall(self.look)
        self._looking.clock = self._clock
        self._looking.start(self._idle_seconds / _LOOKS, now=False)

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._looking is not None and self._looking.running:
            self._looking.stop()

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, mark: bytes) -> bool:
        return mark in self._seen

    def has_key(self, key: bytes) -> bool:
        """
        Whether the client of an affinity key is known.
        """
        return KEY + key in self._seen

    def add(self, mark: bytes) -> None:
        """
        Know a client, from now on if it was not known.
        """
        seen = self._seen
        seen[mark] = self._clock.seconds()
        seen.move_to_end(mark)
        if len(seen) > self._most:
            self.cut += 1
            # With the others at the next look: there may be one for each newcomer.
            self._forget([next(iter(seen))])

    def admits(self, mark: bytes) -> bool:
        """
        Whether a client whose request has come here is served here: while this worker has its slot
        everybody is, afterwards who is known.
        """
        if self.is_relieved and mark not in self._seen:
            return False
        if mark in self._done:
            self._done.discard(mark)
            if self.is_relieved:
                self.release(mark)
                return False
        self.add(mark)
        return True

    def meets(self, handoff: Handoff) -> bool:
        """
        Take note of a connection that has come, where its key alone says whose it is.

        :return: whether it is served here; who is unknown to a relieved worker came too late.
        """
        if not self.by_key or not handoff.key or handoff.slot != BY_KEY:
            return True
        handoff.client = KEY + handoff.key
        return self.admits(handoff.client)

    def release(self, mark: bytes) -> None:
        """
        Know a client no longer: its next request may go to newer code.
        """
        if mark in self._seen:
            self._forget([mark])
            if self._tells:
                self._part()

    def note_session(self, mark: bytes, is_there: bool) -> None:
        """
        Take note that a client uses a session of ours, or that its session was deleted: then it is
        done, as if it were released, unless it begins another one before its next request.
        """
        if not is_there and self._is_alone and mark in self._seen:
            self._done.add(mark)
        else:
            self._done.discard(mark)

    def keeps(self, mark: bytes, unused_seconds: float) -> bool:
        """
        Whether the client of a session is kept here.

        :param mark: what it is known by; empty if it has begun the session here and was not known
            by anything: who has just been given a token is not, until it sends that.
        :param unused_seconds: how long ago the session was used last.
        """
        if mark:
            return mark in self._seen
        return unused_seconds < self._idle_seconds

    def look(self) -> None:
        """
        Forget who is silent, or done and not here.
        """
        present = set(self._present())
        for mark in present:
            if mark in self._seen:
                self.add(mark)
        self._forget([mark for mark in self._done if mark not in present])
        now = self._clock.seconds()
        silent = []
        for mark, seen in self._seen.items():
            if seen > now - self._idle_seconds:
                break
            silent.append(mark)
        self._forget(silent)
        if not self._tells:
            return
        if self._dropped or now >= self._next_carry_seconds:
            # Those too that nobody is known by, now and then.
            self._next_carry_seconds = now + self._idle_seconds / _LOOKS
            self._part()
        else:
            self._report([], True)

    def _forget(self, marks: list[bytes]) -> None:
        for mark in marks:
            del self._seen[mark]
            self._done.discard(mark)
        if self._tells:
            self._dropped += marks

    def _part(self) -> None:
        """
        Have the sessions leave of those who are known no longer; then tell the primary of them, as
        their next connections come to where it thinks that they belong.
        """
        marks, self._dropped = self._dropped, []
        self._carry().addCallback(lambda _: self._report(marks, True))

    # when the primary must know

    def keep(self, is_relieved: bool, moves: Callable[[bytes], bool]) -> Deferred[None]:
        """
        Keep who is known, and name to the primary those that it could not know of.

        :param is_relieved: whether newcomers are somebody else's from now on.
        :param moves: whether the placement would send the client of a key elsewhere.
        :return: fires when the primary knows.
        """
        self._tells = True
        self.look()
        self.is_relieved = is_relieved
        if is_relieved and self._looking is not None and self._looking.running:
            # Who has nobody left is not kept waiting for long.
            self._looking.stop()
            self._looking.start(min(self._idle_seconds / _LOOKS, _RELIEVED_SECONDS), now=False)
        named = []
        for mark in reversed(self._seen):
            kind = mark[:1]
            # A learned id leads to its slot by itself.
            if kind != TOKEN and (self.is_relieved or (kind == KEY and moves(mark[1:]))):
                named.append(mark)
        return self._report(named, False)

    def forget_all(self) -> None:
        """
        Know nobody any more: all go where newcomers go.
        """
        self._tells = False
        self._seen.clear()
        self._done.clear()
        self._dropped.clear()

    def stay(self) -> None:
        """
        Have the slot after all, with all newcomers.
        """
        self.is_relieved = False

    def _report(self, marks: list[bytes], gone: bool) -> Deferred[None]:
        """
        Tell the primary of marks, in messages that are not too long.
        """
        # Of who has no table there it need not hear, but that nobody is left.
        keys = [mark[1:] for mark in marks if mark[:1] == KEY]
        ids = [mark[1:] for mark in marks if mark[:1] == ID]
        # Again at each look: the primary may not have thought us relieved yet.
        finished = gone and self.is_relieved and not self._seen
        told: Deferred[object] = succeed(None)
        size = _AT_ONCE
        if keys:
            size = max(1, min(_AT_ONCE, _AT_ONCE_BYTES // (2 + max(map(len, keys)))))
        for start in range(0, len(keys), size):
            told = self._tell(keys[start : start + size], [], gone, False)
        for start in range(0, len(ids), _AT_ONCE):
            told = self._tell([], ids[start : start + _AT_ONCE], gone, False)
        if finished:
            told = self._tell([], [], True, True)
        # They are answered in their order, and one that is not means that the primary has died.
        return told.addCallbacks(lambda _: None, lambda _: None)
