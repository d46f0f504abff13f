"""
What clients are told before the response: 100 and 103.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.serve.wsgi.response import read_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.serve.wsgi.response import ResponseHead


def read_hints(headers: Any) -> ResponseHead:
    """
    Check what an application says early.

    :param headers: pairs of name and value.
    :raises TypeError: if something is no text, or no pair.
    :raises ValueError: if a text cannot stand where it should.
    """
    # There is no body that a length could be of, as with this status.
    return read_head("204", headers)


def write_continue(channel: Any, http1: bool) -> None:
    """
    Have the client send its body (RFC 9110, 10.1.1).

    :param channel: the request's connection, or its stream of HTTP/2.
    """
    if http1:
        channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    else:
        channel.inform(b"100", [])


def write_hints(channel: Any, http1: bool, hints: ResponseHead) -> None:
    """
    Write hints (RFC 8297).

    :param channel: the request's connection, or its stream of HTTP/2.
    """
    if http1:
        channel.write(b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % hints.lines)
    else:
        channel.inform(b"103", hints.fields)


class EarlyHints:
    """
    Hints on their way into the loop, in one queue with the response, which comes behind them.
    """

    __slots__ = ("_hints", "_write")

    def __init__(self, hints: ResponseHead, write: Callable[[ResponseHead], object]) -> None:
        self._hints = hints
        self._write = write

    def deliver(self) -> None:
        """
        Write them.
        """
        self._write(self._hints)
