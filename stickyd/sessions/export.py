"""
Taking sessions out of a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyd.errors import SessionError, SessionMoved
from stickyd.sessions.answers import result_of
from stickyd.sessions.transfer import fits, join, line_pair, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from stickyd.sessions.interfaces import ICarriedStore
    from stickyd.sessions.live import LiveSession
    from stickyd.sessions.record import SessionRecord

_BATCH = 256

_log = Logger()


class Export:
    """
    One walk over a store of this worker alone, which takes sessions out and writes them into
    chunks.

    A session is taken out when it is put into a chunk, and nothing else runs until the
    chunk is given out.  So a chunk has every session as it was when it left.
    """

    def __init__(
        self,
        store: ICarriedStore,
        live: Mapping[bytes, LiveSession],
        select: Callable[[SessionRecord], bool] | None,
        limit: int,
        prepare: Callable[[], object],
        uids: Iterable[bytes] | None = None,
    ) -> None:
        """
        :param store: is immediate.
        :param live: the sessions in use, by id.
        :param select: leaves those for which it is false.
        :param limit: the most bytes of a chunk.
        :param prepare: called before the first session is looked at, and whenever others
            had their turn since: those hold now what must not leave.
        :param uids: look at these alone; at all by default.
        """
        self._prepare = prepare
        self._uids = uids
        self._store = store
        self._live = live
        self._select = select
        self._limit = limit
        # The sessions that were taken out for the chunk in hand, and their lines.
        self._taken: list[SessionRecord] = []
        self._pairs: list[bytes] = []
        self._size = 0

    def chunks(self) -> Iterator[bytes]:
        """
        :return: the chunks.
        """
        self._prepare()
        try:
            for uid in self._wanted():
                yield from self._take(uid)
            if self._pairs:
                yield self._chunk()
        except Exception:
            for record in self._taken:
                result_of(self._store.adopt(record))
            raise

    def _wanted(self) -> Iterator[bytes]:
        if self._uids is not None:
            yield from self._uids
            return
        for batch in self._store.enumerate(_BATCH):
            for record in result_of(batch):
                if self._select is None or self._select(record):
                    yield record.uid

    def _take(self, uid: bytes) -> Iterator[bytes]:
        pair = self._write(uid)
        if pair is not None and self._pairs and not fits(self._size + len(pair), self._limit):
            yield self._chunk()
            self._prepare()
            # While the chunk was away, anything may have happened to this session.
            pair = self._write(uid)
        if pair is None:
            return
        record = result_of(self._store.move(uid))
        assert record is not None  # it was loaded just now, to be written
        if fits(len(pair), self._limit):
            self._taken.append(record)
            self._pairs.append(pair)
            self._size += len(pair)
        else:
            yield from self._parts(record)

    def _chunk(self) -> bytes:
        chunk = join(self._pairs)
        self._taken, self._pairs, self._size = [], [], 0
        return chunk

    def _write(self, uid: bytes) -> bytes | None:
        """
        Save what has changed in a session, and write it.

        :return: :obj:`None` if it cannot leave now.
        """
        live = self._live.get(uid)
        if live is not None:
            if live.held:
                return None
            live.leave()
            try:
                result_of(live.save())
            except SessionError:
                # The application's fault: what was saved before is what leaves.
                _log.failure(
                    "sessions: a session leaves without its last changes",
                    event="session.last-changes-lost",
                )
        try:
            record = result_of(self._store.load(uid))
        except SessionMoved:
            return None
        return None if record is None else line_pair(record)

    def _parts(self, record: SessionRecord) -> Iterator[bytes]:
        try:
            yield from split(record, self._limit)
            self._prepare()
        except GeneratorExit:
            # Whoever has the first parts has nothing yet.
            result_of(self._store.adopt(record))
            raise
