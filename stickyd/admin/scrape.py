"""
Asking for the metrics: one answer at a time is written, for all who ask meanwhile.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    #: The text and its type.
    Written = tuple[bytes, str]

_VERSION = re.compile(r"version=[^;]*")
_OPENMETRICS = "application/openmetrics-text"


class Scrapes:
    """
    Hears the workers and writes, as often as somebody asks, but not twice at the same time: who
    asks while that goes on gets what is heard and written next.

    So whoever asks learns all that was before, and many who ask cost little more than one.
    """

    def __init__(self, hear: Callable[[], Deferred[None]], write: Callable[[str], Written]) -> None:
        """
        :param hear: has the workers tell; never fails.
        :param write: gives the metrics as one of the types of :func:`agree`.
        """
        self._hear = hear
        self._write = write
        self._waiting: list[tuple[str, Deferred[Written]]] = []
        self._is_busy = False

    def ask(self, accept: str) -> Deferred[Written]:
        """
        Give the metrics.

        :param accept: the field of that name of whoever asks.
        """
        asked: Deferred[Written] = Deferred()
        self._waiting.append((agree(accept), asked))
        if not self._is_busy:
            self._begin()
        return asked

    def _begin(self) -> None:
        self._is_busy = True
        waiting, self._waiting = self._waiting, []
        self._hear().addCallback(self._heard, waiting)

    def _heard(self, _: None, waiting: list[tuple[str, Deferred[Written]]]) -> None:
        written: dict[str, Written | Failure] = {}
        for kind, asked in waiting:
            if kind not in written:
                try:
                    written[kind] = self._write(kind)
                except Exception:  # noqa: BLE001 - it is told to whoever asked
                    written[kind] = Failure()
            asked.callback(written[kind])
        self._is_busy = False
        if self._waiting:
            self._begin()


def agree(accept: str) -> str:
    """
    Choose a type, one of a few, whatever somebody says to accept.
    """
    try:
        _, kind = choose_encoder(accept)
    except (TypeError, ValueError):  # of a version that is none
        _, kind = choose_encoder("")
    if kind.startswith(_OPENMETRICS):
        _, kind = choose_encoder(_VERSION.sub("version=1.0.0", kind))
    return kind
