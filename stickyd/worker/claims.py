"""
Ids that the application minted here, which the primary must know.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from stickyd.affinity.resolve import learned_id
from stickyd.affinity.spec import LearnKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.affinity.spec import Affinity

#: How many ids a worker remembers as its own; about one that it forgot it asks the primary.
MOST_IDS = 65536

#: Seconds after which the primary, which sees new connections only, is told again of what
#: is in use here, so that it does not forget it.
RENEWAL_SECONDS = 600.0

#: Seconds that a response waits for the primary.
PATIENCE_SECONDS = 2.0

_NEVER = float("-inf")


class OwnKeys:
    """
    The affinity keys that the primary has sent us lately: where it alone decides who belongs
    where, the clients of these belong here.
    """

    def __init__(self, clock: IReactorTime, most: int = MOST_IDS) -> None:
        self._clock = clock
        self._most = most
        self._came: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return self._came.get(key, _NEVER) + RENEWAL_SECONDS > self._clock.seconds()

    def add(self, key: bytes) -> None:
        """
        Note that the primary has sent us a request of this key.
        """
        self._came[key] = self._clock.seconds()
        self._came.move_to_end(key)
        if len(self._came) > self._most:
            self._came.popitem(last=False)


class _Batch:
    """
    What waits for one answer of the primary.
    """

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []


class OwnIds:
    """
    The learned ids whose clients belong here.  Bounded; the longest unused are forgotten
    first.

    An id is ours if the application minted it here, or if the primary sent us a request
    that bears it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        affinity: Affinity,
        send: Callable[[list[bytes]], Deferred[object]],
        renewal: float = RENEWAL_SECONDS,
        most: int = MOST_IDS,
        minted: Callable[[bytes], object] = lambda identifier: None,
    ) -> None:
        """
        :param send: tells the primary; fires when it knows.
        :param renewal: seconds after which an id that is in use is claimed again.
        :param minted: told of each id that is claimed.
        """
        self._renewal = renewal
        self._clock = clock
        self._sources = [key.source for key in affinity.keys if isinstance(key, LearnKey)]
        self._send = send
        self._most = most
        self._minted = minted
        self._log = Logger()
        # Id to the time at which the primary was told of it.
        self._told: OrderedDict[bytes, float] = OrderedDict()
        # Those that it has not answered yet.
        self._telling: dict[bytes, _Batch] = {}

    def __contains__(self, identifier: bytes) -> bool:
        return identifier in self._told

    @property
    def is_learning(self) -> bool:
        """
        Whether clients send ids that the application has minted.
        """
        return bool(self._sources)

    def used(self, identifier: bytes) -> None:
        """
        Note that a client has sent an id that is ours.
        """
        self._told.move_to_end(identifier)
        told = self._told[identifier]
        if told != _NEVER and told + self._renewal < self._clock.seconds():
            self.claim([identifier])

    def add(self, identifier: bytes) -> None:
        """
        Note an id that the primary has sent us.
        """
        self._keep(identifier, self._told.get(identifier, _NEVER))

    def _keep(self, identifier: bytes, told: float) -> None:
        self._told[identifier] = told
        self._told.move_to_end(identifier)
        if len(self._told) > self._most:
            self._told.popitem(last=False)

    def claim(self, identifiers: list[bytes]) -> Deferred[None] | None:
        """
        Tell the primary that ids are ours.

        :param identifiers: of :func:`stickyd.affinity.resolve.learned_id`.
        :return: fires when it knows, or when it has not answered for long and we go on
            without; :obj:`None` if it knows already.
        """
        for identifier in identifiers:
            self._minted(identifier)
        now = self._clock.seconds()
        news = [i for i in identifiers if self._told.get(i, _NEVER) + self._renewal < now]
        if news:
            self._tell(news, now)
        batches = {id(batch): batch for i in identifiers if (batch := self._telling.get(i))}
        if not batches:
            return None
        waiting = []
        for batch in batches.values():
            answered: Deferred[None] = Deferred()
            batch.waiting.append(answered)
            waiting.append(answered)
        return gatherResults(waiting).addCallback(lambda _: None)

    def claim_value(self, value: bytes) -> Deferred[None] | None:
        """
        Claim a value wherever clients may send it; see :func:`stickyd.claim`.
        """
        if not self._sources:
            self._log.warn(
                "stickyd.claim() was called, and no entry of --affinity says where clients send"
                " the id: write for example learn:query:sid",
                event="claim.no-entry",
            )
        return self.claim([learned_id(source, value) for source in self._sources])

    def _tell(self, identifiers: list[bytes], now: float) -> None:
        batch = _Batch()
        for identifier in identifiers:
            self._keep(identifier, now)
            self._telling[identifier] = batch

        def answered(_: object) -> None:
            for identifier in identifiers:
                if self._telling.get(identifier) is batch:
                    del self._telling[identifier]
            for waiting in batch.waiting:
                waiting.callback(None)

        telling = self._send(identifiers)
        telling.addTimeout(PATIENCE_SECONDS, self._clock)
        telling.addErrback(
            lambda failure: self._log.warn(
                "The primary could not be told of an id that was minted here: {problem}",
                event="claim.not-told",
                problem=failure.getErrorMessage(),
            )
        )
        telling.addCallback(answered)
