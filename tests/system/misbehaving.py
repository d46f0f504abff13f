"""
An application whose worker says what no worker should: ``GET /NAME`` has it say one thing.
"""

from __future__ import annotations

import gc
import json
import os
import socket
from struct import Struct
from typing import Any

from twisted.web.resource import Resource
from typing_extensions import override

from stickyd.control.commands import Beat, Claim, Known, Leave, Sessions
from stickyd.handoff.channel import HandoffChannel
from stickyd.handoff.fd_passing import send_rights
from stickyd.handoff.frame import (
    BY_KEY,
    MAX_FRAME_BYTES,
    MAX_UNREAD_BYTES,
    Handoff,
    encode_ack,
    encode_handoff,
    encode_nack,
)

_HEADER = Struct("!BBBBHHHQH")


def _the(kind: str) -> Any:
    """
    The one object of a class of this process.
    """
    return next(each for each in gc.get_objects() if type(each).__name__ == kind)


def _connection() -> socket.socket:
    ours, theirs = socket.socketpair()
    ours.detach()  # the worker ends before long
    return theirs


class _Channel:
    """
    The own end of the handoff channel, without any care.
    """

    def __init__(self) -> None:
        found = next(each for each in gc.get_objects() if type(each) is HandoffChannel)
        self.socket: socket.socket = found._socket
        self.sequence = found._sequence

    def hand(self, descriptor: int | None = None, **fields: Any) -> None:
        """
        Send a handoff of a sound connection, but for what is said.
        """
        handoff = Handoff(
            _connection().detach() if descriptor is None else descriptor, "", 0, b"key"
        )
        for name, value in fields.items():
            setattr(handoff, name, value)
        self.sequence += 1
        handoff.sequence = handoff.sequence or self.sequence
        send_rights(self.socket, encode_handoff(handoff), handoff.descriptor)

    def send(self, message: bytes, descriptor: int | None = None) -> None:
        """
        Send anything.
        """
        if descriptor is None:
            self.socket.send(message)
        else:
            send_rights(self.socket, message, descriptor)

    def frame(self, address: bytes, key: bytes, unread: bytes) -> bytes:
        """
        Write a handoff that need not be one.
        """
        head = _HEADER.pack(1, 1, 1, 0, BY_KEY, len(address), len(key), self.sequence + 1, 0)
        return head + address + key + unread

    def flood(self) -> None:
        """
        Acknowledge nothing, without end.
        """
        self.socket.setblocking(True)
        for _ in range(1_000_000):
            self.socket.send(encode_ack(0, 8))


def _listening() -> int:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock.detach()


def _in_channel() -> dict[str, Any]:
    channel = _Channel()
    return {
        "oversized-rest": lambda: channel.send(
            channel.frame(b"127.0.0.1\x001", b"", b"x" * (MAX_UNREAD_BYTES + 1)),
            _connection().detach(),
        ),
        "oversized-frame": lambda: channel.send(
            channel.frame(b"127.0.0.1\x001", b"", b"x" * (MAX_FRAME_BYTES + 10)),
            _connection().detach(),
        ),
        "long-key": lambda: channel.hand(key=b"k" * 60_000),
        "no-address": lambda: channel.hand(host="client"),
        "address-with-newline": lambda: channel.hand(host="fe80::1%\nCritical: all is lost"),
        "port": lambda: channel.send(
            channel.frame(b"127.0.0.1\x0099999", b"", b""), _connection().detach()
        ),
        "negative-port": lambda: channel.send(
            channel.frame(b"127.0.0.1\x00-1", b"", b""), _connection().detach()
        ),
        "local": lambda: channel.hand(local=("somewhere", 1), flags=2),
        "slot": lambda: channel.hand(slot=300),
        "purpose": lambda: channel.hand(purpose=9),
        "listener": lambda: channel.hand(_listening(), purpose=2, slot=1, unread=b"2"),
        "listening-connection": lambda: channel.hand(_listening(), host="127.0.0.1"),
        "file": lambda: channel.hand(os.open("/dev/null", os.O_RDONLY)),
        "regular-file": lambda: channel.hand(os.open(__file__, os.O_RDONLY)),
        "pipe": lambda: channel.hand(os.pipe()[0]),
        "datagrams": lambda: channel.hand(socket.socketpair(type=socket.SOCK_DGRAM)[0].detach()),
        "family": lambda: channel.hand(host="192.0.2.1"),
        "plain-as-tls": lambda: channel.hand(socket.socket().detach(), host="192.0.2.1", flags=2),
        "no-descriptor": lambda: channel.send(channel.frame(b"127.0.0.1\x001", b"", b"")),
        "sequence": lambda: channel.hand(sequence=77),
        "unknown-kind": lambda: channel.send(b"\x01\x09" + encode_ack(0, 8)[2:]),
        "garbage": lambda: channel.send(os.urandom(5000)),
        "ack-unsent": lambda: channel.send(encode_ack(10**6, 8)),
        "nack-unsent": lambda: channel.send(encode_nack(10**6)),
        "window": lambda: channel.send(encode_ack(0, 65535)),
        "ack-with-descriptor": lambda: channel.send(encode_ack(0, 8), 0),
        "ack-flood": channel.flood,
    }


def _in_control() -> dict[str, Any]:
    worker: Any = _the("PrimaryLink")

    def beat(figures: str, accepted: str | None = None) -> None:
        worker.callRemote(Beat, figures=figures, accepted=accepted)

    def ask(command: Any, **arguments: Any) -> None:
        worker.callRemote(command, **arguments).addErrback(lambda _: None)

    def write(data: bytes) -> None:
        worker.transport.write(data)

    return {
        "text-for-figures": lambda: beat('{"connections": "many"}'),
        "no-json": lambda: beat("I am well"),
        "nan": lambda: beat('{"connections": NaN}'),
        "infinite": lambda: beat('{"connections": 1e999}'),
        "negative": lambda: beat('{"connections": -5}'),
        "huge": lambda: beat(f'{{"connections": {"9" * 400}}}'),
        "list": lambda: beat("[1, 2]"),
        "nested": lambda: beat("[" * 50_000),
        "many-figures": lambda: beat(json.dumps({str(n): 1 for n in range(5000)})),
        "report": lambda: beat("{}", '["a", []]'),
        "report-host": lambda: beat("{}", json.dumps([1, [["00", ["h"], 1]]])),
        "report-count": lambda: beat("{}", json.dumps([-1, []])),
        "beat-flood": lambda: [worker.callRemote(Beat, figures="{}") for _ in range(6000)],
        "leave-flood": lambda: [worker.callRemote(Leave) for _ in range(3000)],
        "claim": lambda: ask(Claim, identifiers=[b"x" * 16]),
        "known-clients": lambda: ask(
            Known, keys=[b"\x7f\0\0\1"], identifiers=[], gone=False, finished=False
        ),
        "planted-sessions": lambda: ask(Sessions, slot=1, chunk=b"[]"),
        "own-sessions": lambda: ask(Sessions, slot=0, chunk=b"[]"),
        "sessions-of-no-slot": lambda: ask(Sessions, slot=-1, chunk=b"[]"),
        "unknown-command": lambda: write(b"\0\x08_command\0\x05Shout\0\x04_ask\0\x021f\0\0"),
        "start-tls": lambda: write(b"\0\x08_command\0\x08StartTLS\0\x04_ask\0\x021f\0\0"),
        "answer-to-nothing": lambda: write(b"\0\x07_answer\0\x03fff\0\0"),
        "error-to-nothing": lambda: write(b"\0\x06_error\0\x03fff\0\0"),
        "neither": lambda: write(b"\0\x01a\0\x01b\0\0"),
        "empty-message": lambda: write(b"\0\0"),
        "no-arguments": lambda: write(b"\0\x08_command\0\x04Beat\0\0"),
        "no-number": lambda: write(
            b"\0\x08_command\0\x08Sessions\0\x04_ask\0\x011\0\x04slot\0\x03one\0\x05chunk\0\0\0\0"
        ),
        "not-utf8": lambda: write(b"\0\x08_command\0\x04Beat\0\x07figures\0\x02\xff\xff\0\0"),
        "endless-message": lambda: write(
            b"".join(b"\0\x04%04d\xff\xff%b" % (n, b"v" * 65535) for n in range(40))
        ),
        "http": lambda: write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    }


#: What can be asked for.
CHANNEL = (
    *("oversized-rest", "oversized-frame", "long-key", "no-address", "address-with-newline"),
    *("port", "negative-port", "local", "slot", "purpose", "listener"),
    *("listening-connection", "file", "regular-file", "pipe", "datagrams", "family"),
    *("plain-as-tls", "no-descriptor", "sequence", "unknown-kind", "garbage", "ack-unsent"),
    *("nack-unsent", "window", "ack-with-descriptor", "ack-flood"),
)
CONTROL = (
    *("text-for-figures", "no-json", "nan", "infinite", "negative", "huge", "list", "nested"),
    *("many-figures", "report", "report-host", "report-count", "beat-flood", "leave-flood"),
    *(
        "claim",
        "known-clients",
        "planted-sessions",
        "own-sessions",
        "sessions-of-no-slot",
        "unknown-command",
    ),
    *("start-tls", "answer-to-nothing", "error-to-nothing", "neither", "empty-message"),
    *("no-arguments", "no-number", "not-utf8", "endless-message", "http"),
)


class Misbehaving(Resource):
    """
    Does what the path says; ``/`` answers with the process id.
    """

    isLeaf = True

    @override
    def render(self, request: Any) -> bytes:
        name = request.path[1:].decode()
        if name:
            ({**_in_channel(), **_in_control()})[name]()
        return b"%d" % os.getpid()


site = Misbehaving()
