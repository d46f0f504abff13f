"""
Records that cannot be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyd.net.throttle import Throttle
from stickyd.sessions.plain import decode
from stickyd.sessions.stores.sealer import UnreadableRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.sessions.stores.sealer import Sealer

#: Seconds between two lines about them.
LOG_SECONDS = 60.0


class RecordReader:
    """
    Reads the data of records.  Those that it cannot read are counted, and told of in the log now
    and then; who stores them keeps them, as if there were none.

    :ivar unreadable: how many there were.
    """

    _log = Logger()

    def __init__(self, sealer: Sealer, seconds: Callable[[], float], shown: str) -> None:
        """
        :param shown: the setting, for the log.
        """
        self._sealer = sealer
        self._throttle = Throttle(seconds, LOG_SECONDS)
        self._shown = shown
        self.unreadable = 0

    def read(self, name: bytes, version: int, data: bytes) -> bytes | None:
        """
        :param name: the hash of the id.
        :return: the data as :func:`stickyd.sessions.plain.encode` makes them, or
            :obj:`None`.
        """
        try:
            text = self._sealer.open(name, version, bytes(data))
            decode(text)
        except (UnreadableRecord, ValueError, TypeError, AttributeError, RecursionError) as problem:
            self.unreadable += 1
            if self._throttle.due():
                self._log.error(
                    "{store}: the session of hash {name} cannot be read, and is kept as it is:"
                    " {problem} ({n} so far)",
                    event="store.unreadable",
                    store=self._shown,
                    name=name.hex(),
                    problem=problem,
                    n=self.unreadable,
                )
            return None
        return text
