"""
Heads that come in pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.serve.http.head import RequestError, parse_request_line

if TYPE_CHECKING:
    from stickyd.serve.http.limits import HTTPLimits


class PartialHead:
    """
    Collects a head until it is whole.
    """

    def __init__(self, limits: HTTPLimits, skipped: bool) -> None:
        """
        :param skipped: whether an empty line came before it already.
        """
        self._limits = limits
        self._data = bytearray()
        self._scanned = 0  # how far the data was searched for the end
        self.skipped = skipped

    def __bytes__(self) -> bytes:
        """
        Give what has come so far.
        """
        return bytes(self._data)

    def extend(self, data: bytes) -> bytes | None:
        """
        Add what has come.

        :return: all bytes, if the end of the head is among them; nothing, as
            :obj:`None`, if it is not; and ``b""`` if it was but an empty line.
        :raise RequestError: if no further bytes can make it a good head.
        """
        collected = self._data
        collected += data
        if not self.skipped and collected.startswith(b"\r\n"):
            self.skipped = True
            del collected[:2]
            if not collected:
                return b""
        if collected.find(b"\r\n\r\n", self._scanned) >= 0:
            return bytes(collected)
        self._scanned = max(0, len(collected) - 3)
        check_partial(collected, self._limits)
        return None


def check_partial(data: bytearray, limits: HTTPLimits) -> None:
    """
    Refuse the beginning of a head as early as that can be told, for its end may never
    come: without a bound on the line or with a bare LF it would only time out.

    :raise RequestError: if no further bytes can make it a good head.
    """
    line_end = data.find(b"\r\n")
    if line_end < 0:
        if len(data) > limits.target_bytes + 32:
            line = bytes(data).split(b" ", 2)
            if len(line) > 1 and len(line[1]) > limits.target_bytes:
                raise RequestError(414, "target too long")
    else:
        parse_request_line(bytes(data[:line_end]), limits)
    if len(data) > limits.head_bytes:
        raise RequestError(431, "head too large")
    feeds = data.count(b"\n")
    returns = data.count(b"\r") - data.endswith(b"\r")
    if feeds != returns or feeds != data.count(b"\r\n"):
        raise RequestError(400, "bare CR or LF")
    if b"\x00" in data:
        raise RequestError(400, "NUL in the head")
