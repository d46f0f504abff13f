"""
The access log.
"""

from __future__ import annotations

import os
import time
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address

from stickyd.affinity.client_identity import BY_KEY
from stickyd.handoff.frame import Flag
from stickyd.settings.access_format import COMBINED, AccessRecord, parse_format

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.web.http import Request

    from stickyd.handoff.frame import Handoff

    class Sink(Protocol):
        """
        Where lines go: :class:`stickyd.serve.access_file.AccessFile`.
        """

        def write(self, text: str, /) -> object:
            """
            Append whole lines, at once.
            """


_FLUSH_CHARACTERS = 65536
"""Characters that are written at once."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class AccessLog:
    """
    Writes a line for each finished request, in pieces: at least once a second, and
    several at once under load, whole lines always.

    The file belongs to the caller, who closes it after :meth:`close`.
    """

    def __init__(
        self,
        file: Sink,
        clock: IReactorTime,
        wall_clock: Callable[[], float] = time.time,
        form: str = COMBINED,
        slot: Callable[[], int] = lambda: -1,
    ) -> None:
        """
        :param form: see :func:`stickyd.settings.access_format.parse_format`.
        :param slot: gives the worker's slot, -1 for none.
        """
        self._file = file
        self._clock = clock
        self._wall_clock = wall_clock
        self._format = parse_format(form)
        self._slot = slot
        self._worker = os.getpid()
        self._second = -1
        self._time = ""
        self._lines: list[str] = []
        self._size = 0
        self._call: IDelayedCall | None = None

    def log(self, request: Request) -> None:
        """
        Write a line about a request, soon.
        """
        address: Any = request.getClientAddress()
        channel: Any = request.channel
        self.write(
            address.host if isinstance(address, (IPv4Address, IPv6Address)) else "",
            request.method,
            request.uri,
            request.clientproto,
            request.code,
            request.sentLength,
            request.getHeader(b"referer"),
            request.getHeader(b"user-agent"),
            getattr(request, "begun_ns", 0) or getattr(channel, "begun_ns", 0),
            getattr(channel, "handoff", None),
        )

    def write(
        self,
        host: str,
        method: bytes,
        target: bytes,
        version: bytes,
        status: int,
        sent: int,
        referer: bytes | None,
        agent: bytes | None,
        begun_ns: int = 0,
        handoff: Handoff | None = None,
    ) -> None:
        """
        Write a line, soon.

        :param host: the client's address, or nothing.
        :param sent: bytes of the response's body.
        :param begun_ns: when the request began, by :func:`time.perf_counter_ns`; 0 if that is not
            known.
        :param handoff: what brought the connection.
        """
        record = AccessRecord(
            self._timestamp(),
            host,
            method,
            target,
            version,
            status,
            sent,
            referer,
            agent,
            (perf_counter_ns() - begun_ns) / 1e9 if begun_ns else None,
            self._worker,
            self._slot(),
            _key_of(handoff),
            handoff is not None and bool(handoff.flags & Flag.SERVED),
        )
        line = f"{self._format(record)}\n"
        self._lines.append(line)
        self._size += len(line)
        if self._size > _FLUSH_CHARACTERS:
            self.flush()
        elif self._call is None:
            self._call = self._clock.callLater(1, self._tick)

    def flush(self) -> None:
        """
        Write what waits.
        """
        lines, self._lines, self._size = self._lines, [], 0
        if lines:
            self._file.write("".join(lines))

    def close(self) -> None:
        """
        Write what waits, and stop the timer.
        """
        self.flush()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _tick(self) -> None:
        self._call = None
        self.flush()

    def _timestamp(self) -> str:
        second = int(self._wall_clock())
        if second != self._second:
            self._second = second
            moment = time.gmtime(second)
            self._time = (
                f"{moment.tm_mday:02d}/{_MONTHS[moment.tm_mon - 1]}/{moment.tm_year}:"
                f"{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d} +0000"
            )
        return self._time


def _key_of(handoff: Handoff | None) -> str:
    """
    What placed a connection, as :class:`AccessRecord` says it.
    """
    if handoff is None or (handoff.slot == BY_KEY and not handoff.key):
        return "none"
    return "key" if handoff.slot == BY_KEY else "named"
