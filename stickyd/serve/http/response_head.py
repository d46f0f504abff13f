"""
Response heads, as Twisted's own requests have them written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.web.http_headers import Headers

from stickyd.serve.http.head import HTTP_1_1

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stickyd.serve.http.request_channel import IRequestChannel


def write_stock_head(
    channel: IRequestChannel,
    version: bytes,
    code: bytes,
    reason: bytes,
    headers: Headers | Iterable[tuple[bytes, bytes]],
) -> None:
    """
    Write a response head.  Line ends in the reason become spaces.

    :param channel: becomes not persistent if the head says ``Connection: close``; and if it is
        not persistent, the head says so.
    :param headers: headers, or pairs.
    """
    if not isinstance(headers, Headers):
        given, headers = headers, Headers()
        for name, value in given:
            headers.addRawHeader(name, value)
    said = headers.getRawHeaders(b"Connection")
    if said is not None:
        if any(b"close" in value.lower() for value in said):
            channel.persistent = False
    elif not channel.persistent and version == HTTP_1_1:
        headers.setRawHeaders(b"Connection", [b"close"])
    fields = [(name, value) for name, values in headers.getAllRawHeaders() for value in values]
    lines = [b"%b %b %b\r\n" % (version, code, b" ".join(reason.splitlines()))]
    lines += [b"%b: %b\r\n" % field for field in channel.respond(fields)]
    lines.append(b"\r\n")
    channel.write(b"".join(lines))
