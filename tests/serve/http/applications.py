"""
What answers in tests of connections, and a worker that takes connections.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.web.server import NOT_DONE_YET

from stickyd.serve.http import Head


class Later:
    """
    Answers when it is told to.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def __call__(self, request: Any) -> int:
        """
        Remember the request.
        """
        self.requests.append(request)
        return NOT_DONE_YET

    def answer(self, body: bytes = b"late") -> None:
        """
        Answer the oldest request.
        """
        request = self.requests.pop(0)
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.write(body)
        request.finish()


class Router:
    """
    Takes the connections whose requests ask for ``/away``.
    """

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.taken: list[tuple[socket.socket, bytes]] = []

    def __call__(self, head: Head, handoff: object) -> Any:
        """
        Look at a head.
        """
        self.heads.append(head)
        return self.take if head.target == b"/away" else None

    def take(self, sock: socket.socket, unread: bytes) -> None:
        """
        Take a connection.
        """
        sock.close()
        self.taken.append((sock, unread))


AWAY = b"POST /away HTTP/1.1\r\nHOST: a\r\nX-Y: z\r\nContent-Length: 3\r\n\r\n"
