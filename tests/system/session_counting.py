"""
Clients that count in sessions of :mod:`tests.system.counting_app`, and know afterwards what must
be there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import choice, randrange
from typing import TYPE_CHECKING

from tests.system.log import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Target = tuple[str, int]

_GONE = (OSError, EOFError, asyncio.TimeoutError, ValueError, IndexError)


@dataclass
class CountedSession:
    """
    One session.

    :ivar cookies: what its client sends.
    :ivar done: increments that were acknowledged.
    :ivar unknown: those of which nobody knows.
    """

    cookies: dict[str, str] = field(default_factory=dict)
    done: int = 0
    unknown: int = 0


class Visitor:
    """
    A connection to a server, made again when it has ended.
    """

    def __init__(self, target: Target, source: str = "127.0.0.1") -> None:
        """
        :param source: the address that it speaks from.
        """
        self._target = target
        self._source = source
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str, session: CountedSession) -> tuple[int, bytes]:
        """
        Ask for a path.

        :return: status and body.
        """
        try:
            return await asyncio.wait_for(self._get(path, session), PATIENCE)
        except BaseException:
            self.close()
            raise

    async def _get(self, path: str, session: CountedSession) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                *self._target, local_addr=(self._source, 0)
            )
        reader, writer = self._streams
        cookies = "; ".join(f"{name}={value}" for name, value in session.cookies.items())
        cookie = f"Cookie: {cookies}\r\n" if cookies else ""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\n{cookie}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.splitlines()
        length = 0
        for line in lines:
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                length = int(value)
            elif name.lower() == "set-cookie":
                key, _, rest = value.strip().partition("=")
                session.cookies[key] = rest.partition(";")[0]
        body = await reader.readexactly(length)
        if "connection: close" in head.lower():
            self.close()
        return int(first.split()[1]), body

    def close(self) -> None:
        """
        End the connection.
        """
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()


class SessionCounting:
    """
    Sessions, and many who count in them.

    :ivar sessions: all of them.
    :ivar refused: how many requests were refused, by status; 0 for those without an answer.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        """
        :param targets: servers; each request goes to one of them at random.
        """
        self._targets = targets
        self.sessions: list[CountedSession] = []
        self.refused: dict[int, int] = {}

    async def create(self, count: int) -> None:
        """
        Make sessions.
        """
        visitor = Visitor(self._targets[0])
        for _ in range(count):
            session = CountedSession()
            status, body = await visitor.get("/add", session)
            assert (status, body) == (200, b"1"), (status, body)
            session.done = 1
            self.sessions.append(session)
        visitor.close()

    @property
    def done(self) -> int:
        """
        How many increments were acknowledged.
        """
        return sum(session.done for session in self.sessions)

    @property
    def unknown(self) -> int:
        """
        Of how many nobody knows.
        """
        return sum(session.unknown for session in self.sessions)

    async def count_until(self, over: Callable[[], bool], at_once: int, step: int = 1) -> None:
        """
        Count, from many addresses at once.

        :param step: how many increments a request asks for.
        """
        await asyncio.gather(*(self._count(over, step) for _ in range(at_once)))

    async def _count(self, over: Callable[[], bool], step: int) -> None:
        source = f"127.{randrange(1, 250)}.{randrange(1, 250)}.{randrange(1, 250)}"
        visitors = [Visitor(target, source) for target in self._targets]
        while not over():
            session, visitor = choice(self.sessions), choice(visitors)
            try:
                status, _ = await visitor.get(f"/add/{step}", session)
            except _GONE:
                status = 0
            if status == 200:
                session.done += step
                continue
            session.unknown += step
            self.refused[status] = self.refused.get(status, 0) + 1
            # Whoever is not served does not ask all the time.
            await asyncio.sleep(0.05)
        for visitor in visitors:
            visitor.close()

    async def wrong(self) -> list[tuple[int, CountedSession]]:
        """
        The sessions whose count is not what it must be, with the count.
        """
        visitor = Visitor(self._targets[0])
        found = []
        for session in self.sessions:
            _, body = await visitor.get("/read", session)
            if not session.done <= int(body) <= session.done + session.unknown:
                found.append((int(body), session))
        visitor.close()
        return found
