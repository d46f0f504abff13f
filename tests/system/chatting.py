"""
Clients of a chat in which everybody hears what anybody says.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import socketio
from engineio.payload import Payload
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.system.server import LONG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.system.server import Server

# As python-engineio's documentation says: its client gives up on a poll of more than 16 packets.
Payload.max_decode_packets = 1000

#: What each chatter says in one round: of eight of them, 24 words, which are heard 192 times.
WORDS = 3

#: Seconds between two rounds while the server changes.
PAUSE_SECONDS = 0.1

#: Seconds after which a round that something may be lost of is begun anew.
RETRY_SECONDS = 2.0

#: Seconds that a client that leaves waits for its last poll.
PATIENCE_SECONDS = 1.5


class Heard:
    """
    What one chatter has heard.
    """

    def __init__(self, changed: Callable[[], object]) -> None:
        self.words: list[str] = []
        self._changed = changed

    def add(self, word: str) -> None:
        """
        Take note of a word.
        """
        self.words.append(word)
        self._changed()


class Chatter(Protocol):
    """
    A client.

    :ivar stays: whether its connection outlives a reload.
    :ivar heard: what it has heard.
    """

    stays: bool
    heard: Heard

    async def open(self, port: int) -> None:
        """
        Connect, and be in.
        """

    async def say(self, word: str) -> None:
        """
        Have everybody hear a word.
        """

    async def be_back(self) -> None:
        """
        Be connected, again if need be.
        """

    async def close(self) -> None:
        """
        Leave.
        """


class SocketChatter:
    """
    One of Socket.IO.

    :ivar client: the client, once it is open.
    """

    client: Any

    def __init__(self, heard: Heard, transports: list[str]) -> None:
        self.heard = heard
        self.stays = "websocket" in transports
        self._transports = transports
        self._is_in = asyncio.Event()
        self._closing = AsyncExitStack()
        self.interruptions = 0

    async def _hear(self, word: str) -> None:
        self.heard.add(word)

    async def _come(self) -> None:
        self._is_in.set()

    async def _go(self, reason: str) -> None:
        self._is_in.clear()
        self.interruptions += 1

    async def open(self, port: int) -> None:
        # Its own it does not always close.
        session = await self._closing.enter_async_context(aiohttp.ClientSession())
        self.client = socketio.AsyncClient(
            reconnection_delay=0.05, reconnection_delay_max=0.2, http_session=session
        )
        self.client.on("said", self._hear)
        self.client.on("connect", self._come)
        self.client.on("disconnect", self._go)
        await self.client.connect(
            f"http://127.0.0.1:{port}", transports=self._transports, wait_timeout=LONG
        )
        await self.be_back()

    async def say(self, word: str) -> None:
        await self.client.emit("say", word)

    async def be_back(self) -> None:
        await self._is_in.wait()

    async def close(self) -> None:
        if self.stays:
            assert not self.interruptions
        self.client.reconnection = False
        leaving = asyncio.ensure_future(self.client.disconnect())
        await asyncio.wait([leaving], timeout=PATIENCE_SECONDS)
        await self._closing.aclose()
        await leaving


class WebSocketChatter:
    """
    One of a plain WebSocket.
    """

    stays = True

    def __init__(self, heard: Heard, path: str = "/") -> None:
        self.heard = heard
        self._path = path
        self._socket: Any = None
        self._hearing: asyncio.Task[None] | None = None

    async def open(self, port: int) -> None:
        self._socket = await connect(f"ws://127.0.0.1:{port}{self._path}", proxy=None)
        self._hearing = asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        try:
            while True:
                self.heard.add(await self._socket.recv())
        except ConnectionClosed:
            pass

    async def say(self, word: str) -> None:
        await self._socket.send(word)

    async def be_back(self) -> None:
        assert self._hearing is not None
        assert not self._hearing.done()

    async def close(self) -> None:
        await self.be_back()
        await self._socket.close()
        assert self._hearing is not None
        await self._hearing


class Room:
    """
    Those who are in the chat.
    """

    def __init__(self, chatters: Sequence[Chatter], changed: asyncio.Event) -> None:
        self._chatters = chatters
        self._changed = changed
        self._rounds = 0

    async def converse(self, everybody: bool = True) -> None:
        """
        Have all of them speak at once, and wait until each has heard each word, once.

        :param everybody: whether those take part whose connections a reload ends.
        """
        chatters = [one for one in self._chatters if everybody or one.stays]
        self._rounds += 1
        said = [
            [f"{self._rounds} {number} {word}" for word in range(WORDS)]
            for number in range(len(chatters))
        ]

        async def speak(chatter: Chatter, words: list[str]) -> None:
            for word in words:
                await chatter.say(word)

        await asyncio.gather(*map(speak, chatters, said))
        words = sorted(word for some in said for word in some)
        for chatter in chatters:
            await asyncio.wait_for(self._until_heard(chatter, words), LONG)

    async def converse_in_the_end(self) -> None:
        """
        Speak until all have heard all of it once, when something may be lost before.
        """
        for _ in range(int(LONG)):
            try:
                await asyncio.wait_for(self.converse(), RETRY_SECONDS)
            except asyncio.TimeoutError:
                continue
            return
        raise AssertionError("they still do not hear one another")

    async def _until_heard(self, chatter: Chatter, words: list[str]) -> None:
        while len(heard := self._of_this_round(chatter)) < len(words):
            self._changed.clear()
            await self._changed.wait()
        assert sorted(heard) == words

    def _of_this_round(self, chatter: Chatter) -> list[str]:
        return [word for word in chatter.heard.words if word.startswith(f"{self._rounds} ")]

    async def converse_during(self, change: Callable[[], object], everybody: bool) -> None:
        """
        Speak until a change of the server is over, and once more.

        :param everybody: whether the connections of all of them outlive it.
        """
        changing = asyncio.create_task(asyncio.to_thread(change))
        while not changing.done():
            await self.converse(everybody)
            # The server has other things to do, too.
            await asyncio.wait([changing], timeout=PAUSE_SECONDS)
        await changing
        for chatter in self._chatters:
            await asyncio.wait_for(chatter.be_back(), LONG)
        await self.converse()


@asynccontextmanager
async def chat(make: Sequence[Callable[[Heard], Chatter]], *servers: Server) -> AsyncIterator[Room]:
    """
    Open a chat; leave it at the end.

    :param make: makes each of the chatters, who go to the servers in turn.
    """
    changed = asyncio.Event()
    chatters = [one(Heard(changed.set)) for one in make]
    try:
        ports = itertools.cycle(server.port for server in servers)
        await asyncio.gather(*(one.open(next(ports)) for one in chatters))
        yield Room(chatters, changed)
        for one in chatters:
            assert len(set(one.heard.words)) == len(one.heard.words)
    finally:
        await asyncio.gather(*(one.close() for one in chatters))
