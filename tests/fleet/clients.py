"""
Clients of a whole fleet, and what is said to those that it refuses.
"""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING, Any

from twisted.logger import ILogObserver
from zope.interface import implementer

from stickyd.handoff.frame import Flag, Handoff
from stickyd.interfaces import IRefusal
from tests.fleet_workers import Child, inode

if TYPE_CHECKING:
    from twisted.web.http import Request


class Client:
    """
    A client with one keep-alive connection.

    :ivar asked: how many requests it has sent.
    :ivar begun: how many of them a worker has begun to answer.
    :ivar answered: how many answers it has.
    :ivar may_end: why its connection may be closed, or empty.
    :ivar is_refused: whether the primary has refused it.
    :ivar died_with: the worker that had acknowledged it and died, if one has.
    :ivar has_left: whether it sends no more.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.host = f"10.0.{number // 256}.{number % 256}"
        self.end, server = socket.socketpair()
        self.end.setblocking(False)
        self.inode = inode(server.fileno())
        self.asked = self.begun = self.answered = 0
        self.may_end = ""
        self.is_refused = False
        self.died_with: Child | None = None
        self.has_left = False
        self._unread = b""
        self.ask()
        self.handoff = Handoff(
            server.detach(), self.host, number, self.host.encode(), flags=Flag.CLAIMED
        )

    def ask(self) -> None:
        """
        Send a request.
        """
        self.end.send(b"GET /%d/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (self.number, self.asked))
        self.asked += 1

    def leave(self) -> None:
        """
        Send no more.
        """
        self.end.shutdown(socket.SHUT_WR)
        self.has_left = True
        self.may_end = self.may_end or "it has left"

    def read(self) -> None:
        """
        Read what came: answers to its own requests, in their order.
        """
        while True:
            try:
                data = self.end.recv(65536)
            except (BlockingIOError, ConnectionResetError):
                break
            if not data:
                break
            self._unread += data
        while b"\r\n\r\n" in self._unread:
            head, _, rest = self._unread.partition(b"\r\n\r\n")
            body = b"/%d/%d" % (self.number, self.answered)
            if len(rest) < len(body):
                break
            assert head.startswith(b"HTTP/1.1 200 ")
            assert rest.startswith(body)
            self._unread = rest[len(body) :]
            self.answered += 1
            if b"connection: close" in head.lower():
                self.may_end = self.may_end or "it was told so"


class Clients(list[Client]):
    """
    All clients, each at its number.
    """

    def began(self, child: Child, request: Request) -> None:
        """
        A worker begins to answer: no request is begun twice, and none is left out.
        """
        number, index = map(int, request.uri.decode().strip("/").split("/"))
        client = self[number]
        assert index == client.begun, f"{number}/{index} where {client.begun} is due"
        client.begun += 1

    def open(self) -> list[Client]:
        """
        Those who can ask for more.
        """
        return [client for client in self if not client.has_left and not client.may_end]

    def gone(self) -> list[Client]:
        """
        Those whose connection is closed, in every process.
        """
        hangups = select.poll()
        by_descriptor = {client.end.fileno(): client for client in self}
        for descriptor in by_descriptor:
            hangups.register(descriptor, 0)
        return [by_descriptor[descriptor] for descriptor, _ in hangups.poll(0)]


@implementer(IRefusal)
class Refusal:
    """
    Closes, and notes why.
    """

    def __init__(self, clients: list[Client]) -> None:
        self._clients = clients

    def refuse(self, handoff: Handoff, why: str) -> None:
        client = self._clients[handoff.port]
        client.may_end, client.is_refused = f"refused: {why}", True
        os.close(handoff.descriptor)


@implementer(ILogObserver)
class Failures(list[dict[str, Any]]):
    """
    Keeps what the log has of errors that nobody caught.
    """

    def __call__(self, event: dict[str, Any]) -> None:
        if "log_failure" in event:
            self.append(event)

    def check(self) -> None:
        """
        Fail if there is one.
        """
        assert not self, self[0]["log_failure"].getTraceback()
