"""
The examples of ``docs/one-application.md``, as they are printed: several workers are one.
"""

from __future__ import annotations

import asyncio
import re
import select
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.sessions.redis_servers import RedisServer
from tests.system.acting import ORDERS, act_on_each_other
from tests.system.chatting import Chatter, Heard, SocketChatter, WebSocketChatter, chat
from tests.system.client import Client
from tests.system.placing import source_address
from tests.system.printing import blocks
from tests.system.processes import eventually
from tests.system.server import LONG, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

EXAMPLES = {
    found[1]: (block, found[2].split())
    for block in blocks("docs/one-application.md", "python")
    if (found := re.match(r"# (\w+)\.py  (--.*)\n", block))
}

POLLING = partial(SocketChatter, transports=["polling"])
UPGRADED = partial(SocketChatter, transports=["polling", "websocket"])
WEBSOCKET = partial(SocketChatter, transports=["websocket"])

OF_SOCKETIO = (POLLING, POLLING, POLLING, UPGRADED, UPGRADED, UPGRADED, WEBSOCKET, WEBSOCKET)

#: Who talks in each.
CHATS: dict[str, Sequence[Callable[[Heard], Chatter]]] = {
    "chat_socketio": OF_SOCKETIO,
    "chat_flask": OF_SOCKETIO,
    "chat_channels": (WebSocketChatter,) * 8,
}


#: What their servers are called.
SERVERS = {"chat_socketio": "sio", "chat_flask": "socketio"}


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a test's coroutine, within reason.
    """
    asyncio.run(asyncio.wait_for(coroutine, 4 * LONG))


@contextmanager
def serving(
    name: str, directory: Path, workers: int, more: str = "", *options: str
) -> Iterator[Server]:
    """
    Serve an example as it says; it must end well.

    :param more: what it has besides.
    """
    block, printed = EXAMPLES[name]
    # A poll ends by the next ping, and the server's stop waits for it.
    block = block.replace('async_mode="', 'ping_interval=1, async_mode="')
    (directory / f"{name}.py").write_text(block + more)
    server = Server(*printed, *options, workers=workers, directory=directory)
    try:
        server.wait_until_ready()
        yield server
        server.stop(LONG)
    finally:
        server.destroy()


def test_examples_are_short() -> None:
    """
    None has much more than ten lines.
    """
    lines = {name: [*filter(None, block.split("\n"))] for name, (block, _) in EXAMPLES.items()}
    assert {name for name, block in lines.items() if len(block) > 25} == set()


@pytest.mark.parametrize(
    ("name", "mode", "changes"),
    [
        ("chat_socketio", "client", ["reload"]),
        ("chat_flask", "connection", ["resize"]),
        ("chat_channels", "connection", ["upgrade"]),
        *(
            pytest.param(name, mode, ["resize", "reload", "upgrade"], marks=pytest.mark.soak)
            for name in CHATS
            for mode in ("connection", "client")
        ),
    ],
)
def test_everybody_hears_everybody(
    name: str, mode: str, changes: list[str], tmp_path: Path
) -> None:
    """
    Eight clients, each in some worker, say three words each, and all of them hear all 24; also
    while the server is resized, reloaded and upgraded: whoever stays connected misses nothing,
    and that is everybody with ``--reload-mode client``.
    And Socket.IO's servers do to each other's clients what python-socketio has calls for.
    """
    make = CHATS[name]

    async def go(server: Server) -> None:
        before = server.descriptors()
        async with chat(make, server) as room:
            after = server.descriptors()
            assert all(after[pid] > before[pid] for pid in map(server.worker, range(2)))
            await room.converse()
            for change in changes:
                if change == "resize":
                    await room.converse_during(lambda: server.resize_to(3), everybody=True)
                else:
                    await room.converse_during(getattr(server, change), mode == "client")

    more = ORDERS.get(SERVERS.get(name, ""), "")
    # A worker that leaves waits for the last polls, 20 seconds by python-engineio's defaults.
    options = ("--reload-mode", mode, "--stop-timeout", "2")
    with serving(name, tmp_path, 2, more, *options) as server:
        # What a client that polls is told by the worker that has taken over.
        server.allow("Invalid session", "did not stop in time")
        if more:
            run(act_on_each_other(server.port))
        run(go(server))


@pytest.mark.soak
@pytest.mark.parametrize("name", CHATS)
def test_two_machines_are_one(name: str, tmp_path: Path) -> None:
    """
    Two primaries that name the same Redis are one chat, also while one of them is reloaded, and
    again when Redis has been away.
    """

    async def go(one: Server, other: Server, redis: RedisServer) -> None:
        async with chat(CHATS[name], one, other) as room:
            await room.converse()
            await room.converse_during(one.reload, everybody=True)
            redis.kill()
            for server in (one, other):
                await asyncio.to_thread(server.log.wait_for, "is away: ", timeout=LONG)
            assert await asyncio.to_thread(redis.start)
            # Each worker has its own connection.
            await room.converse_in_the_end()
            await room.converse()

    with RedisServer(tmp_path) as redis, ExitStack() as stack:
        options = ("--bus", redis.url, "--reload-mode", "client", "--stop-timeout", "2")
        servers = [stack.enter_context(serving(name, tmp_path, 2, "", *options)) for _ in range(2)]
        for server in servers:
            server.allow("is away: ", "did not stop in time", "of another machine did not reach")
        run(go(servers[0], servers[1], redis))


@pytest.mark.parametrize("name", ["events_twisted", "events_asgi"])
def test_events_reach_every_page(name: str, tmp_path: Path) -> None:
    """
    What is said to one worker is heard at each.
    """
    with serving(name, tmp_path, 2) as server, ExitStack() as stack:
        pages = []
        for number in range(4):
            client = stack.enter_context(Client(server.target, source_address(number)))
            client.socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            pages.append(Page(client))
        for page in pages:
            page.read_until(b": welcome\n\n")

        def say(word: bytes) -> None:
            with Client(server.target) as speaker:
                speaker.socket.sendall(
                    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n" + word
                )
                assert speaker.answer().body == b"told\n"

        def everybody_hears() -> bool:
            say(b"any")
            return all(page.has_heard(b"data: any\n\n") for page in pages)

        # A subscription takes a moment, for which the examples do not wait.
        assert eventually(everybody_hears)
        say(b"one")
        say(b"two")
        for page in pages:
            page.read_until(b"data: one\n\n")
            page.read_until(b"data: two\n\n")


class Page:
    """
    A client to which events are sent.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._read = b""

    def read_until(self, end: bytes) -> None:
        """
        Read until something has come; what was before it is forgotten.
        """
        while end not in self._read:
            self._receive()
        self._read = self._read.partition(end)[2]

    def has_heard(self, text: bytes) -> bool:
        """
        Read what is there.

        :return: whether something has come by now.
        """
        while select.select([self._client.socket], [], [], 0)[0]:
            self._receive()
        return text in self._read

    def _receive(self) -> None:
        data = self._client.socket.recv(4096)
        assert data, self._read
        self._read += data
