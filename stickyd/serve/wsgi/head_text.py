"""
The head of an application's response, as it goes to the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.web.http_headers import Headers

from stickyd.serve.http.head import HTTP_1_1

if TYPE_CHECKING:
    from stickyd.serve.http.context import HTTPContext
    from stickyd.serve.wsgi.response import ResponseHead


def http1_head(
    head: ResponseHead, version: bytes, channel: Any, whole: int | None, silent: bool
) -> tuple[bytes, bool]:
    """
    Write a head for HTTP/1, with all that the application need not say.

    :param version: of the request.
    :param channel: its connection, which is told if this response is to be its last.
    :param whole: how many bytes the whole body has, if that is known.
    :param silent: whether the response has no body, whatever the application says.
    :return: the head; and whether the body is to be written in chunks.
    """
    common = channel.context.common()
    if head.named:
        common = b"".join(b"%b: %b\r\n" % pair for pair in _own_fields(head, channel.context))
    lines = head.lines
    if channel.exchange is not None:
        lines = b"".join(b"%b: %b\r\n" % pair for pair in channel.respond(head.fields))
    end = b"\r\n"
    chunked = False
    if head.length is None and not silent:
        if whole is not None:
            end = b"Content-Length: %d\r\n\r\n" % whole
        elif version is HTTP_1_1:
            chunked = True
            end = b"Transfer-Encoding: chunked\r\n\r\n"
        else:
            channel.persistent = False
    if head.closes:
        channel.persistent = False
    if not channel.persistent and version is HTTP_1_1:
        end = b"Connection: close\r\n" + end
    text = b"%b %d %b\r\n%b%b%b" % (version, head.status, head.reason, common, lines, end)
    return text, chunked


def http2_fields(
    head: ResponseHead, context: HTTPContext, whole: int | None, silent: bool
) -> Headers:
    """
    Give the fields of a head for HTTP/2.

    The parameters are those of :func:`http1_head`.
    """
    headers = Headers()
    for name, value in (*_own_fields(head, context), *head.fields):
        headers.addRawHeader(name, value)
    if head.length is None and whole is not None and not silent:
        headers.addRawHeader(b"Content-Length", b"%d" % whole)
    return headers


def _own_fields(head: ResponseHead, context: HTTPContext) -> list[tuple[bytes, bytes]]:
    """
    Give the fields that every response has, but those that the application has set itself.
    """
    own = [] if "server" in head.named else [(b"Server", context.server)]
    if "date" not in head.named:
        own.append((b"Date", context.date()))
    return own
