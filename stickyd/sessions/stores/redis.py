"""
Sessions in Redis or Valkey, which all workers and all machines see.

What is promised with which setting of the server stands in ``docs/sessions.md``.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, NoReturn

from redis.exceptions import ResponseError
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.errors import NoSuchSession, SessionConflict, StoreAway
from stickyd.net.throttle import Throttle
from stickyd.sessions.interfaces import ISessionStore
from stickyd.sessions.record import HIDDEN, EndReason, HiddenId, hidden_id
from stickyd.sessions.stores.redis_check import check_server, look_for_faults
from stickyd.sessions.stores.redis_command import RedisCommand
from stickyd.sessions.stores.redis_nodes import make_nodes
from stickyd.sessions.stores.redis_policy import LinkPolicy
from stickyd.sessions.stores.redis_record import (
    RECORD_FIELDS,
    STATE_FIELDS,
    digest_of,
    key_of,
    read_record,
    read_state,
    write_alias_metadata,
    write_metadata,
)
from stickyd.sessions.stores.redis_scripts import (
    ALIAS,
    CONFLICT,
    DELETE,
    SAVE,
    TOUCH,
    digest,
)
from stickyd.sessions.stores.sealer import Sealer
from stickyd.sessions.stores.timer_wheel import TimerWheel
from stickyd.sessions.stores.unreadable import RecordReader

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from stickyd.redis.url import RedisAddress
    from stickyd.sessions.record import SessionRecord
    from stickyd.sessions.stores.redis_record import StoredState

_SAVE, _TOUCH, _DELETE, _ALIAS = map(digest, (SAVE, TOUCH, DELETE, ALIAS))

#: Aliases of aliases that are followed.
_MOST_ALIASES = 8

#: Sessions of which the store remembers when they are over, to tell of it.
_MOST_WATCHED = 100_000

#: Seconds between two lines of the log about records that cannot be read.
_QUIET_SECONDS = 60.0


@implementer(ISessionStore)
class RedisSessionStore:
    """
    Keeps each session as a hash, which goes by itself when the session is over.

    """

    _log = Logger()

    immediate = False

    def __init__(
        self,
        clock: IReactorTime,
        loop: asyncio.AbstractEventLoop,
        address: RedisAddress,
        grace_seconds: float = 10.0,
        keys: Sequence[bytes] = (),
    ) -> None:
        """
        :param clock: ``seconds()`` gives seconds since 1970.
        :param loop: what runs the connections.
        :param grace_seconds: how long a server that is away is waited for.
        :param keys: the secrets that encrypt data, the first also new ones; none if there are
            none.
        :raises stickyd.errors.SettingError: if there are some, and cryptography is not installed.
        """
        self._sealer = Sealer(keys)
        self._reader = RecordReader(self._sealer, clock.seconds, f"--sessions {address}")
        self._damaged = 0
        self.calls = 0
        self._clock = clock
        self._loop = loop
        self._address = address
        self._prefix = address.prefix.encode()
        policy = LinkPolicy(
            grace_seconds, address.wait_replicas, address.wait_ms, address.form == "cluster"
        )
        self._nodes = make_nodes(loop, address, policy)
        self._observers: list[Callable[[bytes, EndReason], object]] = []
        # The sessions that this process knows, by what stands for their ids: when each is
        # over, as far as is known here, and its place in the wheel.
        self._watched: dict[HiddenId, tuple[float, int | None]] = {}
        self._wheel = TimerWheel()
        self._throttle = Throttle(loop.time, _QUIET_SECONDS)

    @property
    def is_away(self) -> bool:
        """
        Whether the server, or one of them, does not answer.
        """
        return self._nodes.is_away

    @property
    def unreadable(self) -> int:
        """
        How many records were found that cannot be read.
        """
        return self._reader.unreadable + self._damaged

    def start(self, slot: int) -> Deferred[None]:
        return self._run(check_server(self._address))

    def stop(self) -> Deferred[None]:
        return self._run(self._nodes.close())

    def check(self) -> Deferred[list[str]]:
        return self._run(look_for_faults(self._address))

    def _run(self, coroutine: Any) -> Deferred[Any]:
        return Deferred.fromFuture(self._loop.create_task(coroutine))

    def observe(self, callback: Callable[[bytes, EndReason], object]) -> None:
        self._observers.append(callback)

    # the operations

    def load(self, uid: bytes) -> Deferred[SessionRecord | None]:
        return self._load(uid, _MOST_ALIASES)

    def _load(self, uid: bytes, most: int) -> Deferred[SessionRecord | None]:
        return self._ask("HMGET", uid, *RECORD_FIELDS).addCallbacks(
            self._loaded, self._not_read, (uid, most), errbackArgs=(uid,)
        )

    def _loaded(
        self, values: list[bytes | None], uid: bytes, most: int
    ) -> SessionRecord | Deferred[SessionRecord | None] | None:
        try:
            state = self._state(values[: len(STATE_FIELDS)])
            if state is None:
                return None
            if state.alias is not None:
                return self._load(state.alias, most - 1) if most else None
            record = read_record(uid, values)
        except ValueError as problem:
            self._complain(uid, str(problem))
            return None
        text = self._reader.read(digest_of(uid), record.version, record.data)
        if text is None:
            return None
        self._watch(uid, state.due)
        return record if text == record.data else replace(record, data=text)

    def version(self, uid: bytes) -> Deferred[int | None]:
        return self._ask("HMGET", uid, *STATE_FIELDS).addCallbacks(
            self._version, self._not_read, (uid,), errbackArgs=(uid,)
        )

    def _version(self, values: list[bytes | None], uid: bytes) -> int | None:
        try:
            state = self._state(values)
        except ValueError as problem:
            self._complain(uid, str(problem))
            return None
        return None if state is None or state.alias is not None else state.version

    def _state(self, values: list[bytes | None]) -> StoredState | None:
        state = read_state(values)
        return None if state is None or state.due <= self._clock.seconds() else state

    def save(self, record: SessionRecord, nonce: bytes = b"") -> Deferred[SessionRecord]:
        data = self._sealer.seal(digest_of(record.uid), record.version + 1, record.data)
        words = [
            record.version,
            # A name of our own, so that we may send it again.
            nonce or token_bytes(9),
            repr(self._clock.seconds()),
            repr(record.touched),
            write_metadata(record),
            data,
            0,
        ]
        saving = self._script(
            _SAVE, record.uid, words, writes=True, fenced=not record.version, size=len(data)
        )
        return saving.reply.addCallbacks(
            self._saved, self._not_saved, (record,), errbackArgs=(record.uid,)
        )

    def _saved(self, reply: bytes | int, record: SessionRecord) -> SessionRecord:
        if isinstance(reply, bytes):
            stored = record.revised(record.version + 1, float(reply), record.data)
            self._watch(record.uid, stored.due())
            return stored
        shown = _shown(record.uid)
        if reply == CONFLICT:
            raise SessionConflict(
                f"session {shown}: version {record.version} was loaded, but another is stored"
            )
        raise NoSuchSession(f"session {shown} has ended")

    def touch(self, uid: bytes) -> Deferred[bool]:
        now = self._clock.seconds()
        touching = self._script(_TOUCH, uid, [repr(now)])
        return touching.reply.addCallbacks(bool, self._nothing, errbackArgs=(uid,))

    def delete(self, uid: bytes) -> Deferred[bool]:
        return self._delete(uid, _MOST_ALIASES)

    def _delete(self, uid: bytes, most: int, target: bytes = b"") -> Deferred[bool]:
        self._forget(uid)
        words = [repr(self._clock.seconds()), target]
        command = self._script(_DELETE, uid, words, writes=True)
        return command.reply.addCallbacks(
            self._deleted, self._nothing, (uid, most, command), errbackArgs=(uid,)
        )

    def _deleted(
        self, reply: bytes | int, uid: bytes, most: int, command: RedisCommand
    ) -> bool | Deferred[bool]:
        if not isinstance(reply, bytes):
            # One that was sent twice may have been done by the first.
            return bool(reply) or command.attempts > 1
        if not most:
            return False
        session = self._delete(HiddenId(HIDDEN + reply), most - 1)
        return session.addCallback(
            lambda found: self._delete(uid, 0, reply).addCallback(lambda _: found)
        )

    def alias(self, old: bytes, version: int, new: bytes, seconds: float) -> Deferred[bool]:
        words = [
            version,
            repr(self._clock.seconds()),
            key_of(b"", new),
            write_alias_metadata(seconds),
        ]
        aliasing = self._script(_ALIAS, old, words, writes=True)
        return aliasing.reply.addCallbacks(
            self._aliased, self._not_saved, (old, version), errbackArgs=(old,)
        )

    def _aliased(self, reply: int, old: bytes, version: int) -> bool:
        if reply == CONFLICT:
            raise SessionConflict(
                f"session {_shown(old)}: version {version} was loaded, but another is stored"
            )
        if reply:
            self._forget(old)
        return bool(reply)

    # what is over

    def expire(self, limit: int) -> Deferred[bool]:
        now = self._clock.seconds()
        due = []
        more = True
        for _ in range(limit):
            uid = self._wheel.pop(now)
            if uid is None:
                more = False
                break
            name = HiddenId(uid)
            if name in self._watched:
                self._watched[name] = self._watched[name][0], None
                due.append(name)
        looks = [
            self._ask("HMGET", uid, *STATE_FIELDS).addCallbacks(
                self._look_at, self._look_again, (uid,), errbackArgs=(uid,)
            )
            for uid in due
        ]
        return DeferredList(looks).addCallback(lambda _: more)

    def _look_at(self, values: list[bytes | None], uid: HiddenId) -> None:
        try:
            state = read_state(values)
        except ValueError:
            state = None
        if state is None or state.due <= self._clock.seconds():
            if self._watched.pop(uid, None) is not None:
                for observer in self._observers:
                    observer(uid, EndReason.EXPIRED)
        elif state.alias is None:
            self._watch(uid, state.due)

    def _look_again(self, failure: Failure, uid: HiddenId) -> None:
        if uid in self._watched:
            self._watch(uid, self._clock.seconds() + _QUIET_SECONDS)

    def _watch(self, uid: bytes, due: float) -> None:
        if due == inf:
            return
        name = hidden_id(uid)
        known = self._watched.get(name)
        if known is not None and known[0] <= due and known[1] is not None:
            # It comes up too early, and is put in again.
            return
        if known is not None:
            self._wheel.remove(name, known[1])
        elif len(self._watched) >= _MOST_WATCHED:
            self._forget(next(iter(self._watched)))
        self._watched[name] = due, self._wheel.put(name, due)

    def _forget(self, uid: bytes) -> None:
        name = hidden_id(uid)
        known = self._watched.pop(name, None)
        if known is not None:
            self._wheel.remove(name, known[1])

    # asking the server

    def _ask(self, word: str, uid: bytes, *words: str) -> Deferred[Any]:
        self.calls += 1
        key = key_of(self._prefix, uid)
        command = RedisCommand(key, [word, key, *words])
        self._nodes.submit(command)
        return command.reply

    def _script(
        self,
        script: str,
        uid: bytes,
        words: list[Any],
        writes: bool = False,
        fenced: bool = False,
        size: int = 0,
    ) -> RedisCommand:
        key = key_of(self._prefix, uid)
        command = RedisCommand(key, ["EVALSHA", script, 1, key, *words], writes, fenced, 400 + size)
        self._nodes.submit(command)
        return command

    # what the server does not do

    def _not_read(self, failure: Failure, uid: bytes) -> None:
        self._complain(uid, _wrong_type(failure))

    def _nothing(self, failure: Failure, uid: bytes) -> bool:
        self._complain(uid, _wrong_type(failure))
        return False

    def _not_saved(self, failure: Failure, uid: bytes) -> NoReturn:
        self._complain(uid, _wrong_type(failure))
        raise SessionConflict(f"session {_shown(uid)}: something else is stored in its place")

    def _complain(self, uid: bytes, problem: str) -> None:
        self._damaged += 1
        if self._throttle.due():
            self._log.error(
                "sessions: {key} in the Redis at {address} cannot be read, and is left alone:"
                " {problem} ({count} so far)",
                event="store.unreadable",
                key=key_of(self._prefix, uid).decode(errors="replace"),
                address=self._address,
                problem=problem,
                count=self._damaged,
            )


def _wrong_type(failure: Failure) -> str:
    """
    What is wrong with a key that is no hash; any other failure goes on.
    """
    if failure.check(ResponseError) is None:
        failure.raiseException()
    text = str(failure.value)
    if "WRONGTYPE" in text:
        return "it is of another type"
    raise StoreAway(f"Redis has not done what it should: {text}")


def _shown(uid: bytes) -> str:
    """
    Enough to find it in the store; nothing of the id.
    """
    return hidden_id(uid)[:19].decode("ascii") + "..."
