"""
Many clients at a time, each of whom knows what its answers must be.
"""

from __future__ import annotations

import hashlib
import socket
import threading
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from typing_extensions import Self

from tests.system.client import Client
from tests.system.frameworks.echoes import content_of, pieces_of
from tests.system.placing import source_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

#: How long bodies can be.
LONGEST = 10_000_000

#: Bodies of both directions, as sizes to choose from, each as likely as the others: nearly all
#: requests of a page are small, and those that are not must not keep the others from coming.
SIZES = [0] * 60 + [1, 300, 3000] * 10 + [20_000, 70_000, 300_000]

#: What is always asked besides: each side, each framing, the longest.
LARGE = [
    (LONGEST, False, 0, False),
    (LONGEST, True, 0, True),
    (0, False, LONGEST, False),
    (0, False, LONGEST, True),
    (3_000_001, True, 5_000_003, True),
    (5_000_003, False, 3_000_001, False),
]

#: Seconds for an answer, 10 MB of it too, on a machine that is busy.
PATIENT = 60.0


class Visitor:
    """
    A client: its connection to the proxy, its cookie, and what it has found out.

    :ivar slots: who answered it, and how often.
    :ivar cookie: what the worker gave it last.
    """

    def __init__(self, number: int, target: tuple[str, int], source: str) -> None:
        self.name = f"client-{number}"
        self.source = source
        self.slots: Counter[int] = Counter()
        self.cookie = ""
        self.asked = 0
        self._target = target
        self._client: Client | None = None

    def ask(self, random: Random, body: tuple[int, bool, int, bool] | None = None) -> None:
        """
        Make a request, and check that the answer is its own, whole and true.

        :param body: bytes to send, whether in chunks, bytes to ask for, whether in chunks.
        """
        sent, sent_chunked, size, chunked = body or (
            random.choice(SIZES),
            random.random() < 0.5,
            random.choice(SIZES),
            random.random() < 0.5,
        )
        self.asked += 1
        nonce = f"{self.name}-{self.asked}"
        content = content_of(f"request {nonce}", sent)
        if self._client is None:
            self._client = Client(self._target, self.source, timeout=PATIENT)
            self._client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fields = [f"X-Client: {self.name}", f"X-Nonce: {nonce}"]
        if self.cookie:
            fields.append(f"Cookie: a=b; stickyd={self.cookie}")
        if sent_chunked:
            fields.append("Transfer-Encoding: chunked")
        elif sent:
            fields.append(f"Content-Length: {sent}")
        method = "POST" if sent or sent_chunked else "GET"
        lines = [f"{method} /?size={size}&chunked={chunked:d} HTTP/1.1", "Host: h", *fields]
        head = "\r\n".join([*lines, "", ""]).encode()
        self._client.socket.sendall(head + (_in_chunks(content) if sent_chunked else content))
        with self._client.response() as response:
            answer = response.read()
        told = response.headers
        assert response.status == 200, (response.status, nonce, answer[:200])
        assert (told["X-Client"], told["X-Nonce"]) == (self.name, nonce)
        assert told["X-Received"] == hashlib.sha256(content).hexdigest(), (nonce, sent)
        assert answer == content_of(nonce, size), (nonce, size, len(answer))
        # Of nothing a WSGI application has no way to say that it comes in chunks.
        assert ("Transfer-Encoding" in told) == chunked or not size, told
        self.slots[int(told["X-Slot"])] += 1
        for line in told.get_all("Set-Cookie") or ():
            name, _, value = line.partition(";")[0].partition("=")
            assert name == "stickyd"
            self.cookie = value
        self.host = told["X-Host"]
        if response.will_close or not random.randrange(50):
            self.hang_up()

    def hang_up(self) -> None:
        """
        Close its connection; the next request makes another.
        """
        if self._client is not None:
            self._client.close()
            self._client = None


def _in_chunks(content: bytes) -> bytes:
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces_of(content)]
    return b"".join([*chunks, b"0\r\n\r\n"])


class Crowd:
    """
    Visitors, some of whom ask at the same time.  Use it in a ``with``.
    """

    def __init__(self, count: int, target: tuple[str, int]) -> None:
        self.visitors = [
            Visitor(number, target, source_address(number + 1000)) for number in range(count)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for visitor in self.visitors:
            visitor.hang_up()

    def ask(self, requests: int, threads: int = 6) -> None:
        """
        Make so many requests, by visitors in random order, so many at a time; among them
        those of :data:`LARGE`.
        """
        problems: list[BaseException] = []

        def work(number: int) -> None:
            random = Random(number)
            # Each has some of its own, so that nobody asks twice at a time.
            ours = self.visitors[number::threads]
            large = LARGE[number::threads]
            try:
                for count in range(requests // threads + (number < requests % threads)):
                    if problems:
                        return
                    due = large.pop() if large and count % 10 == 9 else None
                    random.choice(ours).ask(random, due)
                assert not large
            except BaseException as problem:  # noqa: BLE001 (told to the test)
                problems.append(problem)

        self._at_once(work, threads)
        if problems:
            raise problems[0]

    @staticmethod
    def _at_once(work: Callable[[int], None], threads: int) -> None:
        started = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()

    def check_everybody_stayed(self, workers: int) -> dict[str, int]:
        """
        Check that nobody was answered by two workers, and that every worker has some.

        :return: who was answered by whom.
        """
        strayed = {each.name: each.slots for each in self.visitors if len(each.slots) > 1}
        assert not strayed, strayed
        homes = {each.name: next(iter(each.slots)) for each in self.visitors if each.slots}
        assert set(homes.values()) == set(range(workers)), Counter(homes.values())
        return homes


def connections_to(port: int) -> int:
    """
    How many connections to a local port there are, or were in the last minute.
    """
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, ours, theirs, state, *_ = line.split()
        for here, there in ((ours, theirs), (theirs, ours)):
            # LISTEN is 0A.
            if state != "0A" and int(here.rpartition(":")[2], 16) == port:
                found.add(there)
    return len(found)
