"""
A request to the admin endpoint.
"""

from __future__ import annotations

from typing import Any

from twisted.web.server import Request
from typing_extensions import override

#: Of a request.
MOST_BODY_BYTES = 16_384


class AdminRequest(Request):
    """
    A request with a small body, of which nothing is parsed before somebody wants it.
    """

    def __init__(self, channel: Any, *arguments: Any) -> None:
        super().__init__(channel, *arguments)
        self._parsePOSTFormSubmission = False

    @override
    def gotLength(self, length: int | None) -> None:
        channel: Any = self.channel
        if length is None:
            channel.refuse(411, "write Content-Length: a body in chunks is not read here")
        elif length > MOST_BODY_BYTES:
            channel.refuse(413, f"the body is longer than {MOST_BODY_BYTES} bytes")
        # For one of unknown length Twisted would want a file, and there may be no place for it.
        super().gotLength(min(length or 0, MOST_BODY_BYTES))
