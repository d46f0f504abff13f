"""
Taking sessions out of a store that answers later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyd.errors import SessionError, SessionMoved
from stickyd.sessions.transfer import CHUNK, fits, join, line_pair, split

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from stickyd.sessions.interfaces import ICarriedStore
    from stickyd.sessions.live import LiveSession
    from stickyd.sessions.record import SessionRecord

_log = Logger()


class LateExport:
    """
    Takes sessions out, has them sent in chunks, and forgets them when they are where they go.

    A session that could not be sent is taken in again.  Until it was sent the store keeps it, so
    that a death at any moment loses none.
    """

    def __init__(
        self,
        store: ICarriedStore,
        live_of: Callable[[bytes], LiveSession | None],
        asked_for: Callable[[bytes], Awaitable[None] | None],
        prepare: Callable[[], object],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """
        :param live_of: tells who uses a session here.
        :param asked_for: tells whether somebody waits for a session; fires when they have it.
        :param prepare: called before the first session is looked at, and whenever others
            had their turn since: those hold now what must not leave.
        :param send: sends a chunk.
        """
        self._store = store
        self._live_of = live_of
        self._asked_for = asked_for
        self._prepare = prepare
        self._send = send
        self._taken: list[SessionRecord] = []
        self._pairs: list[bytes] = []
        self._size = 0

    async def carry(self, uids: Iterable[bytes]) -> None:
        """
        Carry sessions, but for those that are held.

        :raise Exception: as sending has failed; what was not sent is here.
        """
        try:
            for uid in uids:
                record = await self._take(uid)
                if record is not None:
                    await self._add(record)
            await self._flush()
        except BaseException:
            for record in self._taken:
                await self._store.adopt(record)
            raise

    async def _take(self, uid: bytes) -> SessionRecord | None:
        while (asked_for := self._asked_for(uid)) is not None:
            # It would move behind their load, and before what they do with it.
            await asked_for
        self._prepare()
        live = self._live_of(uid)
        if live is not None:
            if not _is_free(live):
                return None
            live.leave()
            try:
                await live.save()
            except SessionError:
                # The application's fault: what was saved before is what leaves.
                _log.failure(
                    "sessions: a session leaves without its last changes",
                    event="session.last-changes-lost",
                )
            self._prepare()
            if not _is_free(live):
                return None
        try:
            return await self._store.move(uid)
        except SessionMoved:
            return None

    async def _add(self, record: SessionRecord) -> None:
        pair = line_pair(record)
        if self._pairs and not fits(self._size + len(pair), CHUNK):
            await self._flush()
        self._taken.append(record)
        if fits(len(pair), CHUNK):
            self._pairs.append(pair)
            self._size += len(pair)
            return
        for chunk in split(record, CHUNK):
            await self._send(chunk)
        await self._forget()

    async def _flush(self) -> None:
        if self._pairs:
            await self._send(join(self._pairs))
            await self._forget()

    async def _forget(self) -> None:
        taken, self._taken, self._pairs, self._size = self._taken, [], [], 0
        for record in taken:
            await self._store.moved(record.uid)


def _is_free(live: LiveSession) -> bool:
    return not live.held
