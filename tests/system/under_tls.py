"""
Load by TLS on a server while it changes: clients that keep their connections, as they may.
"""

from __future__ import annotations

import re
import select
import ssl
import threading
import time
import traceback
from collections import Counter
from http.client import HTTPException
from typing import TYPE_CHECKING

from tests.system.placing import source_address
from tests.system.test_tls import Secure
from tests.tls_harness import client_context

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from tests.system.server import Server

#: How many clients there are, how many of them ask at once, and how often each asks on one
#: connection.
SOURCES = 24
THREADS = 3
PER_CONNECTION = 12

_COUNTED = re.compile(rb"Worker \d+ session hits: (\d+)\n")


class _Visitor:
    """
    A client, who keeps a connection and counts its hits.
    """

    def __init__(self, server: Server, source: str, context: ssl.SSLContext) -> None:
        self._server = server
        self._source = source
        self._context = context
        self._connection: Secure | None = None
        self._served = 0
        self._hits = 0

    def visit(self, seen: Counter[str]) -> None:
        """
        Make one request, on a new connection if the one that there was is over.

        :raises OSError: if a request fails that no server may have fail.
        :raises AssertionError: the same for a wrong answer or an end out of order.
        """
        seen["requests"] += 1
        if self._was_closed():
            seen["closed while idle"] += 1
        try:
            hits = self._ask(seen)
        except (OSError, HTTPException):
            if not self._served:
                raise
            # It crossed the close of a connection that was idle: nobody has read it, which
            # the next count shows, and it may be sent again.
            seen["crossed a close"] += 1
            self.leave()
            hits = self._ask(seen)
        assert hits == self._hits + 1, f"hit {hits} after {self._hits}"
        self._hits = hits

    def _was_closed(self) -> bool:
        if self._connection is None:
            return False
        ready, _, _ = select.select([self._connection.tls], [], [], 0)
        if not ready:
            return False
        # With a close_notify, or this raises.
        assert self._connection.tls.recv(1) == b"", "the server has something to say"
        self.leave()
        return True

    def _ask(self, seen: Counter[str]) -> int:
        if self._connection is None:
            self._connection = Secure(self._server, self._source, context=self._context)
            self._served = 0
        connection = self._connection
        connection.send()
        with connection.response() as response:
            body = response.read()
            closes = response.getheader("Connection") == "close"
            assert response.status == 200, body
        self._served += 1
        if closes:
            seen["told to be the last"] += 1
            assert connection.tls.recv(1) == b""
        if closes or self._served == PER_CONNECTION:
            self.leave()
        counted = _COUNTED.fullmatch(body)
        assert counted is not None, body
        return int(counted[1])

    def leave(self) -> None:
        """
        Close the connection, if there is one.
        """
        connection, self._connection = self._connection, None
        self._served = 0
        if connection is not None:
            connection.tls.close()


class UnderTls:
    """
    A load that runs until the end of the ``with`` block, and at least for its time.

    :ivar seen: how many requests there were, and how often a connection had been closed.
    """

    def __init__(self, server: Server, seconds: float) -> None:
        self.seen: Counter[str] = Counter()
        self._seconds = seconds
        self._ends = 0.0
        self._over = False
        self._problems: list[str] = []
        self._threads = [
            threading.Thread(target=self._visit, args=(server, number), daemon=True)
            for number in range(THREADS)
        ]

    def __enter__(self) -> Self:
        self._ends = time.monotonic() + self._seconds
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            threading.Event().wait(max(0.0, self._ends - time.monotonic()))
        self._over = True
        for thread in self._threads:
            thread.join()

    @property
    def runs(self) -> bool:
        """
        Whether its time is not over yet.
        """
        return time.monotonic() < self._ends

    def _visit(self, server: Server, number: int) -> None:
        context = client_context()
        visitors = [
            _Visitor(server, source_address(each), context)
            for each in range(number, SOURCES, THREADS)
        ]
        seen: Counter[str] = Counter()
        try:
            while not self._over:
                for visitor in visitors:
                    visitor.visit(seen)
        except Exception as problem:  # noqa: BLE001 - told to the test
            where = "".join(traceback.format_exception(problem))
            self._problems.append(f"after {seen}: {where}")
        for visitor in visitors:
            visitor.leave()
        self.seen.update(seen)

    def check_nothing_was_lost(self) -> None:
        """
        Check that every request was answered, with a count that was the last plus 1.
        """
        assert not self._problems, "\n".join(self._problems)
        assert self.seen["requests"] > SOURCES
