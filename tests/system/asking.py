"""
Asking the admin endpoint of a server.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from tests.system.server import Server

#: Runs a server with so many open files that there is room for 204 event streams.
FEW = ("sh", "-c", 'ulimit -n 4096; exec "$@"', "sh")
STREAMS = 204

_ADDRESS = re.compile(r"dashboard at http://127\.0\.0\.1:(\d+)/")
_TOKEN = re.compile(r"\?token=(\S+)")
_SAMPLE = re.compile(r"(\w+)(?:\{([^}]*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Asking:
    """
    The admin endpoint of a running server.
    """

    def __init__(self, server: Server, token: str = "") -> None:
        """
        :param token: if the log does not say it.
        """
        self.port = int(server.log.wait_for(_ADDRESS.pattern)[1])
        self.token: str = token or server.log.wait_for(_TOKEN.pattern)[1]

    @property
    def url(self) -> str:
        """
        Where a browser goes.
        """
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    @property
    def _rights(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: object = None,
        known: bool = True,
        fields: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """
        Ask something.

        :param body: as JSON can carry it.
        :param known: whether to send the token.
        :return: status and text.
        """
        sent = {**(self._rights if known else {}), **(fields or {})}
        text = None
        if body is not None:
            text = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, text, sent)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """
        What the dashboard shows.
        """
        status, text = self.ask("/api/status")
        assert status == 200, text
        told: dict[str, Any] = json.loads(text)
        return told

    def streamed(self) -> dict[str, Any]:
        """
        What a page that is opened now is told first of the status, by the stream of events.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", "/api/events", headers=self._rights)
            answer = connection.getresponse()
            assert answer.status == 200
            lines = iter(answer.readline, b"")
            assert b"event: status\n" in lines
            told: dict[str, Any] = json.loads(next(lines).removeprefix(b"data: "))
            return told
        finally:
            connection.close()

    def listen(self, stack: ExitStack) -> tuple[socket.socket, bytes]:
        """
        Open an event stream.

        :param stack: closes it.
        :return: the connection, and what has come of it so far: a whole head, and perhaps more.
        """
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", self.port), 60))
        fields = f"Host: localhost\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        sock.sendall(f"GET /api/events HTTP/1.1\r\n{fields}".encode())
        got = b""
        while b"\r\n\r\n" not in got:
            piece = sock.recv(4096)
            assert piece, got
            got += piece
        return sock, got

    def samples(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """
        The metrics, by name: labels and value of each.
        """
        status, text = self.ask("/metrics", known=False)
        assert status == 200, text
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for line in text.splitlines():
            match = _SAMPLE.fullmatch(line)
            if match is not None and not line.startswith("#"):
                labels = dict(_LABEL.findall(match[2] or ""))
                found.setdefault(match[1], []).append((labels, float(match[3])))
        return found

    def total(self, name: str, **labels: str) -> float:
        """
        The sum of all samples of a metric that have these labels.
        """
        return sum(
            value
            for has, value in self.samples().get(name, [])
            if all(has.get(key) == wanted for key, wanted in labels.items())
        )
