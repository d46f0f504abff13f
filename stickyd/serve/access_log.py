"""
The access log, in the combined format.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.web.http import Request

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
_unsafe = re.compile(r'[^\x20-\x7e]|["\\]')


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return "\\" + character if character in '"\\' else f"\\x{ord(character):02x}"


def _safe(text: bytes | None) -> str:
    # Latin-1 so that each byte is one character; what a client sends must not be able
    # to end a field or a line.
    return "-" if not text else _unsafe.sub(_escape, text.decode("latin-1"))


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
    ) -> None:
        self._file = file
        self._clock = clock
        self._wall_clock = wall_clock
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
        self.write(
            address.host if isinstance(address, (IPv4Address, IPv6Address)) else "",
            request.method,
            request.uri,
            request.clientproto,
            request.code,
            request.sentLength,
            request.getHeader(b"referer"),
            request.getHeader(b"user-agent"),
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
    ) -> None:
        """
        Write a line, soon.

        :param host: the client's address, or nothing.
        :param sent: bytes of the response's body.
        """
        line = (
            f"{host or '-'} - - [{self._timestamp()}] "
            f'"{_safe(method)} {_safe(target)} {_safe(version)}" '
            f'{status} {sent or "-"} "{_safe(referer)}" "{_safe(agent)}"\n'
        )
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
