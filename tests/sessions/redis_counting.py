"""
Counting in a store while something goes wrong with it: what was acknowledged must be there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from time import time
from typing import TYPE_CHECKING

from twisted.internet.task import Clock

from stickyd.errors import NoSuchSession, SessionConflict, StoreAway
from stickyd.sessions.plain import decode, encode
from stickyd.sessions.record import SessionRecord, new_uid

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from twisted.internet.defer import Deferred

    from stickyd.sessions.interfaces import ISessionStore


class RealClock(Clock):
    """
    The time, for a store that only asks for it.
    """

    def seconds(self) -> float:
        return time()


@dataclass
class Count:
    """
    What became of the increments of one session.

    :ivar done: those that were acknowledged.
    :ivar unknown: those of which nobody knows.
    """

    uid: bytes
    done: int = 0
    unknown: int = 0


@dataclass
class Counting:
    """
    Sessions that are counted up.

    :ivar store: where they are, or one of the stores.
    :ivar counts: of each session.
    :ivar gone: how many sessions were found gone.
    """

    store: ISessionStore
    counts: list[Count] = field(default_factory=list)
    gone: int = 0
    _nonces: count[int] = field(default_factory=lambda: count(1))

    async def create(self, sessions: int) -> None:
        """
        Make so many.
        """
        for _ in range(sessions):
            record = new_record(encode({"n": 0}))
            await self._save(record)
            self.counts.append(Count(record.uid))

    @property
    def unknown(self) -> int:
        """
        Of how many increments nobody knows.
        """
        return sum(counted.unknown for counted in self.counts)

    async def increment(self, counted: Count, store: ISessionStore | None = None) -> None:
        """
        Count one session up by one, with as many attempts as others make it take.
        """
        store = store or self.store
        while True:
            record = await settled(store.load(counted.uid))
            if record is None:
                self.gone += 1
                return
            number = decode(record.data)["n"]
            try:
                await self._save(replace(record, data=encode({"n": number + 1})), store)
            except SessionConflict:
                continue
            except NoSuchSession:
                self.gone += 1
            except StoreAway:
                counted.unknown += 1
            else:
                counted.done += 1
            return

    async def count_until(self, over: Callable[[], bool], at_once: int) -> None:
        """
        Count, so many at once, until it is over.
        """
        counts = list(self.counts)

        async def work(number: int) -> None:
            for step in count(number):
                if over():
                    return
                try:
                    await self.increment(counts[step % len(counts)])
                except StoreAway:
                    await asyncio.sleep(0.02)

        await asyncio.gather(*(work(number) for number in range(at_once)))

    async def wait_for(self, done: int) -> None:
        """
        Wait until so many are acknowledged.
        """
        while self.done < done:  # noqa: ASYNC110 -- whoever counts would have to look each time
            await asyncio.sleep(0.01)

    async def _save(self, record: SessionRecord, store: ISessionStore | None = None) -> None:
        nonce = b"%d" % next(self._nonces)
        await settled((store or self.store).save(record, nonce))

    async def wrong(self) -> list[tuple[int, Count]]:
        """
        The counts that are not as they must be, with what is stored.
        """
        found = []
        for counted in self.counts:
            record = await settled(self.store.load(counted.uid))
            number = -1 if record is None else decode(record.data)["n"]
            if not counted.done <= number <= counted.done + counted.unknown:
                found.append((number, counted))
        return found

    @property
    def done(self) -> int:
        """
        How many increments were acknowledged.
        """
        return sum(counted.done for counted in self.counts)


async def settled(deferred: Deferred[Any]) -> Any:
    """
    Wait for a Deferred.
    """
    return await deferred.asFuture(asyncio.get_running_loop())


def new_record(data: bytes) -> SessionRecord:
    """
    Make a record that was never stored.
    """
    now = time()
    return SessionRecord(new_uid(), 0, now, now, 900.0, inf, data)
