"""
Whatever strangers say to the admin endpoint, and however they dawdle, it goes on, nothing is
allowed without the right, and the application's clients are served.
"""

from __future__ import annotations

import os
import re
import resource
import selectors
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.system.admin_garbage import FLAWS, flawed, in_pieces, noise
from tests.system.asking import FEW, STREAMS, Asking
from tests.system.client import ask_once
from tests.system.counting import Counting
from tests.system.hostile import attempt_all
from tests.system.processes import cpu_seconds, descriptors_of, eventually, resident_kib

if TYPE_CHECKING:
    from tests.system.conftest import Start
    from tests.system.server import Server

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))

SOURCES = ["127.0.4.1", "127.0.4.2"]

#: What a primary's memory may grow by that is no leak: the allocator's own.
SLACK_KIB = 8_192

#: Seconds that any of them may take: what an idle connection has, and a busy machine takes.
LONGEST_SECONDS = 120.0

#: What the log says of something that was done.
DONE = r"Reload|Drain|Undrain|Resiz|draining|takes clients again"

#: Other connections than event streams of which there is room with few open files.
OTHERS = 102


def say(asking: Asking, messages: list[bytes], random: Random, hangs_up: bool) -> dict[str, int]:
    """
    Send messages, each on a connection of its own.

    :return: how often there was which outcome.
    """
    target = "127.0.0.1", asking.port
    inputs = [("127.0.0.1", in_pieces(random, message), hangs_up) for message in messages]
    return dict(attempt_all(target, inputs, LONGEST_SECONDS))


def check_garbage(server: Server, asking: Asking, noisy: int, spoilt: int) -> None:
    """
    Send so much noise, and so many requests that have the token and are spoilt in another way:
    none of those is answered but by a refusal, nothing changes, and nothing stays behind.
    """
    random = Random(12)
    port, token = asking.port, asking.token
    say(asking, list(noise(random, port, 300)), random, hangs_up=True)
    ask_once(server.target)
    before = asking.status()
    descriptors, memory = len(descriptors_of(server.pid)), resident_kib(server.pid)
    since = server.log.mark()
    say(asking, list(noise(random, port, noisy)), random, hangs_up=True)
    outcomes = say(asking, list(flawed(random, port, token, spoilt)), random, hangs_up=False)
    refused = sum(n for outcome, n in outcomes.items() if re.fullmatch(r"answer 4\d\d", outcome))
    assert refused == spoilt, outcomes
    assert asking.ask("/livez", known=False) == (200, "ok\n")
    after = asking.status()
    for name in ("drained", "ready", "placed"):
        assert after[name] == before[name], name
    assert len(server.started) == server.workers
    assert server.log.found(DONE, since) == []
    assert eventually(lambda: len(descriptors_of(server.pid)) <= descriptors)
    grown = resident_kib(server.pid) - memory
    assert grown < SLACK_KIB, f"{grown} KiB by {noisy + spoilt} messages"


def test_garbage_changes_nothing(start: Start) -> None:
    """
    Noise, damaged requests, and spoilt ones that have the token.
    """
    server = start("--admin", "0", workers=1)
    check_garbage(server, Asking(server), 300, 2 * len(FLAWS))


@pytest.mark.soak
def test_10000_garbage_messages_change_nothing(start: Start) -> None:
    """
    The same with 10,000 of them, while clients count and miss nothing.
    """
    server = start("--admin", "0", workers=2)
    with Counting(server.target, SOURCES) as clients:
        clients.wait_for(10)
        check_garbage(server, Asking(server), 8_000, 2_000)
        clients.wait_for(10)
    clients.check()
    assert clients.unknown == 0


def test_streams_and_silent_clients_are_bounded(start: Start) -> None:
    """
    Beyond what a small limit of open files has room for, event streams are refused with one line
    that says how many there may be; those that are silent keep nobody out.
    """
    server = start("--admin", "0", workers=1, before=FEW)
    asking = Asking(server)
    before = len(descriptors_of(server.pid))
    with ExitStack() as stack:
        for _ in range(2 * OTHERS):
            stack.enter_context(socket.create_connection(("127.0.0.1", asking.port), 60))
        heads = [asking.listen(stack)[1] for _ in range(STREAMS + 20)]
        assert [head.split()[1] for head in heads] == [b"200"] * STREAMS + [b"503"] * 20
        assert b"Retry-After: 10\r\n" in heads[-1]
        status, text = asking.ask("/api/events")
        assert status == 503
        assert f"{STREAMS} dashboards are open, which is the most" in text
        assert len(descriptors_of(server.pid)) <= before + STREAMS + OTHERS + 1
        assert asking.ask("/livez", known=False)[0] == 200
        ask_once(server.target)
    assert eventually(lambda: len(descriptors_of(server.pid)) <= before)


@pytest.mark.soak
def test_slow_clients_end_in_time(start: Start) -> None:
    """
    Two hundred clients that send a head byte by byte, and never end it, a hundred that say
    nothing, and a hundred that ask and read no answer: all are closed when their time is over,
    and others are served meanwhile.
    """
    server = start("--admin", "0", workers=1)
    asking = Asking(server)
    before = len(descriptors_of(server.pid))
    flood = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_000
    address = "127.0.0.1", asking.port
    with ExitStack() as stack, Counting(server.target, SOURCES) as clients:
        socks = [stack.enter_context(socket.create_connection(address, 60)) for _ in range(400)]
        for sock in socks:
            sock.setblocking(False)
        for sock in socks[300:]:
            with suppress(OSError):
                sock.send(flood)
        began = time.monotonic()
        while len(descriptors_of(server.pid)) > before + len(SOURCES):
            assert time.monotonic() - began < LONGEST_SECONDS
            for sock in socks[:200]:
                with suppress(OSError):
                    sock.send(b"X")
            assert asking.ask("/livez", known=False)[0] == 200
            server.pause(0.5)
        clients.wait_for(10)
    clients.check()
    assert clients.unknown == 0


class Reading:
    """
    Reads what comes on connections, in a thread, until it is closed.

    :ivar read_bytes: how much has come.
    :ivar ended: how many of them have ended.
    """

    def __init__(self, socks: list[socket.socket]) -> None:
        self.read_bytes = 0
        self.ended = 0
        self._ending = threading.Event()
        self._selector = selectors.DefaultSelector()
        for sock in socks:
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """
        Read no more.
        """
        self._ending.set()
        self._thread.join()
        self._selector.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            for key, _ in self._selector.select(0.1):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                data = b""
                with suppress(ConnectionResetError):
                    data = sock.recv(65536)
                self.read_bytes += len(data)
                if not data:
                    self._selector.unregister(sock)
                    self.ended += 1


def spent_in(server: Server, seconds: float) -> float:
    """
    Let some time pass.

    :return: which part of a CPU the primary has used meanwhile.
    """
    before, began = cpu_seconds(server.pid), time.monotonic()
    server.pause(seconds)
    return (cpu_seconds(server.pid) - before) / (time.monotonic() - began)


@pytest.mark.soak
def test_a_thousand_streams_cost_little(start: Start) -> None:
    """
    As many event streams as there may be, nine of ten of which are read, while clients count:
    those that are read get everything, and what each costs is small.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = min(1_000, hard // 20)
    server = start("--admin", "0", workers=2)
    asking = Asking(server)
    deaf = most // 10
    try:
        with ExitStack() as stack, Counting(server.target, SOURCES) as clients:
            clients.wait_for(50)
            stack.enter_context(closing(Reading([asking.listen(stack)[0]])))
            alone, memory = spent_in(server, SOAK_SECONDS / 4), resident_kib(server.pid)
            opened = [asking.listen(stack) for _ in range(most + 9)]
            statuses = [head.split()[1] for _, head in opened]
            assert statuses == [b"200"] * (most - 1) + [b"503"] * 10
            reading = Reading([sock for sock, _ in opened[deaf : most - 1]])
            stack.enter_context(closing(reading))
            all_of_them = spent_in(server, SOAK_SECONDS / 2)
            each_kib = (resident_kib(server.pid) - memory) / most
            told = asking.total("stickyd_primary_open_fds")
            assert reading.ended == 0
            assert asking.ask("/livez", known=False)[0] == 200
            clients.wait_for(50)
        clients.check()
        assert clients.unknown == 0
        assert each_kib < 150
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(  # noqa: T201
        f"| {most} event streams | {100 * alone:.1f} % of a CPU with one,"
        f" {100 * all_of_them:.1f} % with all; {each_kib:.0f} KiB each; {told:.0f} descriptors;"
        f" {reading.read_bytes / 1e6:.0f} MB read |"
    )
