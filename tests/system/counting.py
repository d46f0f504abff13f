"""
Clients that count, and know what was acknowledged.
"""

from __future__ import annotations

import re
import socket
import threading
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

_COUNTED = re.compile(rb"Worker \d+ session hits: (\d+)\n")

#: Seconds that an answer may take.
PATIENCE_SECONDS = 60.0


@dataclass
class Count:
    """
    What one client knows.

    :ivar acknowledged: how many hits were answered.
    :ivar unknown: how many were asked for, and got no answer, or 503.
    :ivar last: the last count that it was told.
    :ivar wrong: counts that cannot be.
    :ivar problems: why there was no answer.
    """

    source: str
    acknowledged: int = 0
    unknown: int = 0
    last: int = 0
    wrong: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, count: int) -> None:
        """
        Check a count.  The hits of which the answer was lost may count, or not.
        """
        self.acknowledged += 1
        if not (
            self.last < count and self.acknowledged <= count <= self.acknowledged + self.unknown
        ):
            self.wrong.append(
                f"{self.source}: {count} after {self.last}, with {self.acknowledged} acknowledged"
                f" and {self.unknown} unknown"
            )
        self.last = count


class Counting:
    """
    Clients of several addresses that count until they are told to end, each request on a
    connection of its own.
    """

    def __init__(self, target: tuple[str, int], sources: Sequence[str]) -> None:
        self._target = target
        self._ending = threading.Event()
        self.counts = [Count(source) for source in sources]
        self._threads = [threading.Thread(target=self._run, args=(c,)) for c in self.counts]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    @property
    def acknowledged(self) -> int:
        """
        How many hits were answered.
        """
        return sum(count.acknowledged for count in self.counts)

    @property
    def unknown(self) -> int:
        """
        How many got no answer.
        """
        return sum(count.unknown for count in self.counts)

    def wait_for(self, acknowledged: int) -> None:
        """
        Wait until so many more hits were answered.
        """
        wanted = self.acknowledged + acknowledged
        pause = threading.Event()
        while self.acknowledged < wanted:
            pause.wait(0.01)

    def check(self) -> None:
        """
        Count once more for each, and check that nothing that was acknowledged is lost.
        """
        for count in self.counts:
            self._hit(count)
        wrong = [line for count in self.counts for line in count.wrong]
        assert not wrong, "\n".join(wrong[:20])

    def _run(self, count: Count) -> None:
        while not self._ending.is_set():
            if not self._hit(count):
                self._ending.wait(0.02)

    def _hit(self, count: Count) -> bool:
        try:
            found = self._ask(count.source)
        except (OSError, HTTPException) as problem:
            found = None
            count.problems.append(repr(problem))
        if found is None:
            count.unknown += 1
            return False
        count.note(found)
        return True

    def _ask(self, source: str) -> int | None:
        with socket.create_connection(
            self._target, PATIENCE_SECONDS, source_address=(source, 0)
        ) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            with HTTPResponse(connection) as response:
                response.begin()
                body = response.read()
                if response.status == 503:
                    raise HTTPException(body.decode("latin-1"))
                match = _COUNTED.fullmatch(body)
                assert match is not None, f"{response.status}: {body!r}"
                return int(match[1])
