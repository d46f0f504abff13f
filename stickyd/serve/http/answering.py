"""
Response heads, as requests write them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.web.http_headers import Headers

from stickyd.serve.http.head import HTTP_1_1
from stickyd.serve.http.outgoing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterable


class Answering(Outgoing):
    """
    Writes response heads.
    """

    def respond(self, fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """
        Called with the fields of a response when its head is written, if there is
        somebody to add to them; gives those that it shall have.
        """
        raise NotImplementedError

    def writeHeaders(  # noqa: N802 - Twisted's name
        self,
        version: bytes,
        code: bytes,
        reason: bytes,
        headers: Headers | Iterable[tuple[bytes, bytes]],
    ) -> None:
        """
        Write a response head.
        """
        if not isinstance(headers, Headers):
            given, headers = headers, Headers()
            for name, value in given:
                headers.addRawHeader(name, value)
        said = headers.getRawHeaders(b"Connection")
        if said is not None:
            if any(b"close" in value.lower() for value in said):
                self.persistent = False
        elif not self.persistent and version == HTTP_1_1:
            headers.setRawHeaders(b"Connection", [b"close"])
        lines = [b"%b %b %b\r\n" % (version, code, b" ".join(reason.splitlines()))]
        fields = [(name, value) for name, values in headers.getAllRawHeaders() for value in values]
        if self._visit is not None:
            fields = self.respond(fields)
        lines += [b"%b: %b\r\n" % field for field in fields]
        lines.append(b"\r\n")
        self.write(b"".join(lines))
