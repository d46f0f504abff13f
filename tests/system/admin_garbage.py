"""
What should not be said to the admin endpoint: noise, damaged requests, and requests that would be
carried out but for one thing that is wrong with them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.mutation import HEADS, Mutator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

#: By path, what changes the server if it is sent there.
CHANGES: dict[str, object] = {
    "/api/drain": {"slot": 0},
    "/api/undrain": {"slot": 0},
    "/api/reload": {},
    "/api/resize": {"slots": 1},
}

_PATHS = ("/", "/?token=x", "/metrics", "/readyz?verbose", "/api/status", "/api/events", "/api/x")


@dataclass
class Change:
    """
    A request that would be carried out.

    :ivar fields: of its head.
    """

    port: int
    token: str
    path: str
    body: bytes
    method: str = "POST"
    version: str = "HTTP/1.1"
    fields: list[tuple[str, str]] = field(default_factory=list)
    length: str | None = None

    def __post_init__(self) -> None:
        self.fields = [
            ("Host", f"localhost:{self.port}"),
            ("Authorization", f"Bearer {self.token}"),
            ("Content-Type", "application/json"),
        ]

    def put(self, name: str, *values: str) -> None:
        """
        Have a field with these values, or none.
        """
        self.fields = [each for each in self.fields if each[0] != name]
        self.fields += [(name, value) for value in values]

    def encode(self) -> bytes:
        """
        Write it.
        """
        length = str(len(self.body)) if self.length is None else self.length
        lines = [
            f"{self.method} {self.path} {self.version}",
            *(f"{name}: {value}" for name, value in self.fields),
            *([f"Content-Length: {length}"] if length else []),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


def _put(name: str, *values: str) -> Callable[[Change], object]:
    return lambda change: change.put(name, *values)


def _set(name: str, value: object) -> Callable[[Change], object]:
    return lambda change: setattr(change, name, value)


def _by_cookie(*fields: tuple[str, str]) -> Callable[[Change], object]:
    """
    What a browser sends that is logged in, and does it for another site's page.
    """

    def spoil(change: Change) -> None:
        change.put("Authorization")
        change.put("Cookie", f"a=b; stickyd-admin-{change.port}={change.token}")
        for name, value in fields:
            change.put(name, value)

    return spoil


def _chunked(change: Change) -> None:
    change.put("Transfer-Encoding", "chunked")
    change.length = ""
    change.body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(change.body), change.body)


#: Each is enough for a refusal, whatever else is wrong.
FLAWS: list[Callable[[Change], object]] = [
    _put("Authorization"),
    lambda change: change.put("Authorization", f"Bearer {change.token[:-1]}"),
    lambda change: change.put("Authorization", f"Bearer {change.token}x"),
    lambda change: change.put("Authorization", f"Bearer {change.token.swapcase()}"),
    lambda change: change.put("Authorization", f"Basic {change.token}"),
    lambda change: change.put("Authorization", *[f"Bearer {change.token}"] * 2),
    _put("Authorization", "Bearer \xff\xfe"),
    _put("Host"),
    _put("Host", ""),
    _put("Host", "evil.example"),
    _put("Host", "localhost.evil.example"),
    _put("Host", "10.0.0.1"),
    _put("Host", "\xff\xfe"),
    _put("Host", "localhost", "evil.example"),
    _put("Host", "evil.example", "localhost"),
    _put("Origin", "http://evil.example"),
    _put("Origin", "null"),
    _put("Origin", "http://localhost:1"),
    _put("Origin", "\xff"),
    _put("Sec-Fetch-Site", "cross-site"),
    _put("Sec-Fetch-Site", "same-site"),
    _by_cookie(("Origin", "http://evil.example")),
    _by_cookie(("Sec-Fetch-Site", "cross-site")),
    _by_cookie(("Content-Type", "text/plain")),
    _put("Content-Type"),
    _put("Content-Type", "text/plain"),
    _put("Content-Type", "application/x-www-form-urlencoded"),
    _put("Content-Type", 'multipart/form-data; boundary="'),
    _set("body", b""),
    _set("body", b"[]"),
    _set("body", b"{"),
    _set("body", b'{"slot": 0'),
    _set("body", b"\xff\xfe\0"),
    _set("body", b"[" * 8_000),
    _set("body", b" " * 20_000 + b"{}"),
    _set("method", "GET"),
    _set("method", "PUT"),
    _set("method", "DELETE"),
    _set("method", "OPTIONS"),
    _set("method", "post"),
    _set("method", "POST\xff"),
    _set("version", "HTTP/0.9"),
    _set("version", "HTTP/1.2"),
    _set("version", "HTTP/2.0"),
    _set("version", "HTTP/1.1 HTTP/1.1"),
    _set("length", "-1"),
    _set("length", "0x10"),
    _set("length", "2, 2"),
    _set("length", "99999999999999999999"),
    _chunked,
    _put("Transfer-Encoding", "chunked"),
    _put("Transfer-Encoding", "gzip"),
    _put("X", "a\0b"),
    _put("X", "y" * 17_000),
    _put("X y", "z"),
    lambda change: setattr(change, "path", change.path.upper()),
    lambda change: setattr(change, "path", change.path.replace("i/", "i%2f")),
    lambda change: setattr(change, "path", f"/x/..{change.path}"),
    lambda change: setattr(change, "path", f"http://localhost{change.path}"),
]


def flawed(random: Random, port: int, token: str, count: int) -> Iterator[bytes]:
    """
    Give requests that have the token and would change the server, but for one flaw or two: each
    flaw at least once, if there are so many.
    """
    for number in range(count):
        path, body = random.choice(list(CHANGES.items()))
        change = Change(port, token, path, json.dumps(body).encode())
        FLAWS[number % len(FLAWS)](change)
        if random.random() < 0.2:
            # None that gives back what the other one has taken.
            random.choice((_put("Origin", "http://evil.example"), _set("method", "PUT")))(change)
        yield change.encode()


def noise(random: Random, port: int, count: int) -> Iterator[bytes]:
    """
    Give what nobody may be allowed anything for, as the token is not there: random bytes, and
    requests damaged in a few places, several behind one another.
    """
    changes = [
        Change(port, "x" * 43, path, json.dumps(body).encode()).encode()
        for path, body in CHANGES.items()
    ]
    asked = [
        (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 9\r\n"
            "Accept: application/openmetrics-text; version=1.0.0\r\n\r\n"
        ).encode()
        for path in _PATHS
    ]
    form = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\ntoken=%41"
    mutator = Mutator(random, [*changes, *asked, form, *HEADS])
    for _ in range(count):
        if random.random() < 0.1:
            yield random.randbytes(random.randrange(1, 600))
        else:
            yield b"".join(mutator.next() for _ in range(random.choice((1, 1, 1, 2, 5))))


def in_pieces(random: Random, data: bytes) -> list[bytes]:
    """
    Split a message: not at all, somewhere, or behind each byte.
    """
    way = random.randrange(4)
    if way == 0 and len(data) < 1_000:
        return [data[at : at + 1] for at in range(len(data))]
    if way == 1:
        cut = random.randrange(len(data) + 1)
        return [each for each in (data[:cut], data[cut:]) if each]
    return [data] if data else []
