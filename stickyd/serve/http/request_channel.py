"""
What a request has of the connection, or stream, that it came on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IConsumer, ITransport
from zope.interface import Attribute

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.web.http_headers import Headers

    from stickyd.handoff.frame import Handoff
    from stickyd.serve.http.context import HTTPContext
    from stickyd.serve.http.head import RequestError


class IRequestChannel(ITransport, IConsumer):
    """
    Where a request's response goes: what requests know as their ``channel``.
    """

    context: HTTPContext = Attribute("What all connections of the worker share.")

    site: Any = Attribute("Finds the resource of a request.")

    factory: Any = Attribute("Logs finished requests, unless it is None.")

    handoff: Handoff | None = Attribute("The handoff that brought the connection, if one did.")

    persistent: bool = Attribute("Whether another request may follow this one.")

    message: tuple[bytes, bytes, bytes] = Attribute("Method, target and version of the request.")

    def writeHeaders(  # noqa: N802 - Twisted's name
        version: bytes,
        code: bytes,
        reason: bytes,
        headers: Headers | Iterable[tuple[bytes, bytes]],
    ) -> None:
        """
        Write a response head.
        """

    def respond(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """
        Give the fields that a response shall have, and hold it back if it must wait: the
        client must not learn an id before the primary knows whose it is.
        """

    def requestDone(request: Any) -> None:  # noqa: N802 - Twisted's name
        """
        Called when a response is complete.

        :raise TypeError: if it is not the one that is being answered.
        """

    def hold_body() -> None:
        """
        Read no more of the request's body for now.
        """

    def want_body() -> None:
        """
        Read on.
        """

    def rest() -> bool:
        """
        Do not watch the client for a moment, as the answer is on its way.  Many connections
        are over with it, and to watch one costs more than to read it.

        :return: :obj:`False` if it is watched already.
        """

    def watch() -> None:
        """
        Watch the client again, as it may leave.
        """

    def refuse(error: RequestError) -> None:
        """
        Answer a request, which is not answered yet and cannot be served, with a status; then
        close.
        """

    def abortConnection() -> None:  # noqa: N802 - Twisted's name
        """
        End the connection, or the stream, now: half a response is out.
        """
