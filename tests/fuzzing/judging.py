"""
What a client may see, whatever the application does: judged by h11, and by websockets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h11
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class Asked:
    """
    One request.

    :ivar whole: whether all of it was sent.
    """

    method: str
    path: str
    message: bytes = field(repr=False)
    whole: bool = True
    websocket: bool = False


@dataclass
class Seen:
    """
    What came in answer to one request.

    :ivar whole: whether all of it has come.
    :ivar last: it says that the connection is closed behind it.
    :ivar by_end: its body ends with the connection.
    """

    status: int = 0
    body: bytes = b""
    whole: bool = False
    last: bool = False
    by_end: bool = False


def judge(asked: Iterable[Asked], stream: bytes, ended: bool) -> list[Seen]:
    """
    Take apart what a client has got.

    :param ended: whether the connection has ended.
    :return: what came for each request, up to the first one of which not all has come.
    :raises AssertionError: if a client could not make sense of it.
    """
    answers: list[Seen] = []
    for each in asked:
        seen, stream, upgraded = _read(each, stream, ended)
        answers.append(seen)
        if upgraded:
            _judge_frames(stream)
            return answers
        if not seen.whole:
            return answers
        if seen.last:
            break
    assert not stream, f"more than was asked for: {stream[:200]!r}"
    return answers


def _read(asked: Asked, stream: bytes, ended: bool) -> tuple[Seen, bytes, bool]:
    if not stream:
        return Seen(), b"", False
    connection = h11.Connection(h11.CLIENT)
    fields = [("Host", "h")]
    if asked.websocket:
        fields += [("Connection", "upgrade"), ("Upgrade", "websocket")]
    connection.send(h11.Request(method=asked.method, target=asked.path, headers=fields))
    connection.send(h11.EndOfMessage())
    connection.receive_data(stream)
    seen = Seen()
    told = False
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as problem:
            if told:
                return seen, b"", False  # it was cut off
            raise AssertionError(f"no HTTP: {problem}: {stream[:300]!r}") from problem
        if event is h11.NEED_DATA:
            if not ended or told:
                return seen, b"", False
            told = True
            connection.receive_data(b"")
        elif isinstance(event, h11.InformationalResponse):
            assert event.status_code in (100, 101), event
            if event.status_code == 101:
                assert asked.websocket, event
                seen.status = 101
                return seen, connection.trailing_data[0], True
        elif isinstance(event, h11.Response):
            seen.status = event.status_code
            names = {name for name, _ in event.headers}
            assert not {b"content-length", b"transfer-encoding"} <= names, event
            seen.last = event.http_version == b"1.0" or any(
                n == b"connection" and b"close" in v for n, v in event.headers
            )
        elif isinstance(event, h11.Data):
            seen.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            seen.whole = True
            seen.by_end = told
            return seen, connection.trailing_data[0], False
        elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            return seen, connection.trailing_data[0], False


def _judge_frames(stream: bytes) -> None:
    client = ClientProtocol(parse_uri("ws://h/"), state=State.OPEN, max_size=None)
    client.receive_data(stream)
    assert client.parser_exc is None, f"no WebSocket: {client.parser_exc}: {stream[:200]!r}"
