"""
A connection that speaks another protocol from some request on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from stickyd.serve.http.link import Link
    from stickyd.serve.http.reader import Reader


class Upgrade:
    """
    The protocol that has taken a connection over.  Whoever had it before stays between it and
    the transport, which may have looked up their methods already.
    """

    def __init__(self, protocol: Any, link: Link, reader: Reader) -> None:
        """
        Connect it.

        :param reader: has what came with the request.
        """
        self._protocol = protocol
        self._link = link
        self._reader = reader
        protocol.makeConnection(link.transport)

    def go_on(self) -> None:
        """
        Give it what came with the request, and read on.
        """
        self._link.resume()
        if not self._reader.dry:
            self.feed(self._reader.take_rest())

    def feed(self, data: bytes) -> None:
        """
        Give it what the client sent.
        """
        self._protocol.dataReceived(data)

    def lost(self, reason: Failure) -> None:
        """
        Tell it that the connection is over.
        """
        self._protocol.connectionLost(reason)

    def say_goodbye(self, code: int) -> bool:
        """
        Close a WebSocket with a reason.

        :param code: as of RFC 6455, section 7.4.
        :return: :obj:`False` if it is none, or is closing already.
        """
        # What twisted.web.websocket calls a WebSocketTransport; any other protocol has
        # words that we do not know.
        if not hasattr(self._protocol, "sendTextMessage"):
            return False
        try:
            self._protocol.loseConnection(code)
        except Exception:  # noqa: BLE001 - wsproto refuses to say it twice
            return False
        return True
