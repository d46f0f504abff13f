"""
A client that chooses the address that it speaks from.
"""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

from tests.system.log import PATIENCE

if TYPE_CHECKING:
    from typing_extensions import Self

_COUNTED = re.compile(rb"Worker (\d+) session hits: (\d+)\n")


@dataclass(frozen=True)
class Answer:
    """
    A whole response.
    """

    status: int
    body: bytes

    @property
    def counted(self) -> tuple[int, int]:
        """
        What the demonstration says: the worker's pid and the number of hits.
        """
        match = _COUNTED.fullmatch(self.body)
        assert match is not None, f"{self.status}: {self.body!r}"
        return int(match[1]), int(match[2])

    @property
    def told(self) -> dict[str, Any]:
        """
        What :data:`tests.system.apps.mirror` says.
        """
        assert self.status == 200, f"{self.status}: {self.body!r}"
        found: dict[str, Any] = json.loads(self.body)
        return found


class Client:
    """
    One connection.  Close it, or use it in a ``with``.

    :ivar source: the address that it speaks from.
    """

    def __init__(
        self,
        target: tuple[str, int] | str,
        source: str = "127.0.0.1",
        timeout: float = PATIENCE,
    ) -> None:
        """
        Connect.

        :param target: host and port, or the path of a UNIX socket.
        :param source: an address of this machine, of the target's family.
        """
        self.source = source
        if isinstance(target, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(timeout)
        try:
            if family != socket.AF_UNIX:
                self.socket.bind((source, 0))
            self.socket.connect(target)
        except BaseException:
            self.socket.close()
            raise

    def send(self, path: str = "/", close: bool = False, *headers: str) -> None:
        """
        Send a request without waiting for the answer.
        """
        head = [f"GET {path} HTTP/1.1", "Host: localhost"] + ["Connection: close"] * close
        head += headers
        self.socket.sendall(("\r\n".join(head) + "\r\n\r\n").encode())

    def response(self) -> HTTPResponse:
        """
        Read the head of a response; the body is the caller's to read, and to close.

        :raises OSError: if the connection breaks before.
        :raises http.client.HTTPException: if it ends before, or it is no HTTP.
        """
        response = HTTPResponse(self.socket)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        return response

    def answer(self) -> Answer:
        """
        Read a whole response.

        :raises OSError: if the connection breaks before it is whole.
        :raises http.client.HTTPException: if it ends before, or it is no HTTP.
        """
        with self.response() as response:
            return Answer(response.status, response.read())

    def ask(self, path: str = "/", close: bool = False) -> Answer:
        """
        Send a request and read its response.
        """
        self.send(path, close)
        return self.answer()

    def at_end(self) -> bool:
        """
        Wait for the server to close the connection.

        :return: :obj:`False` if it sends something instead.
        """
        return self.socket.recv(1) == b""

    def close(self) -> None:
        """
        Close the connection.
        """
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


def ask_once(target: tuple[str, int] | str, source: str = "127.0.0.1", path: str = "/") -> Answer:
    """
    Make one request on a connection of its own.
    """
    with Client(target, source) as client:
        return client.ask(path, close=True)
