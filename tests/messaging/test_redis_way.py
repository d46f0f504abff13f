"""
The way between machines, over a real Redis.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
from twisted.logger import capturedLogs

from stickyd.errors import SettingError
from stickyd.messaging.frame import Kind, encode
from stickyd.messaging.redis_check import check_redis
from stickyd.messaging.redis_way import RedisWay
from stickyd.redis.url import read_redis_url
from tests.sessions.redis_servers import Cluster, RedisServer, Sentinels, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """
    A server with a password.
    """
    with RedisServer(tmp_path, password="s3cret") as server:
        yield server


class Machine:
    """
    A worker of a fleet.

    :ivar heard: what other machines' workers have published.
    :ivar lost: what the primary was told.
    """

    def __init__(self, url: str, fleet: str) -> None:
        self.heard: list[bytes] = []
        self.lost = 0
        self._came = asyncio.Event()
        self.way = RedisWay(
            asyncio.get_running_loop(), read_redis_url(url), self._hear, self._tell_lost
        )
        self.way.start(fleet.encode().ljust(8))

    def _hear(self, name: bytes, data: bytes) -> None:
        assert asyncio.current_task() is None
        self.heard.append(data)
        self._came.set()

    def _tell_lost(self, count: int) -> None:
        self.lost += count
        self._came.set()

    def publish(self, *messages: bytes) -> None:
        """
        Send messages.
        """
        for data in messages:
            self.way.publish(encode(Kind.PUBLISH, b"news", data))

    def has_lost(self, count: int) -> bool:
        """
        Whether the primary was told of so many.
        """
        return self.lost >= count

    async def until(self, happened: Callable[[], object]) -> None:
        """
        Wait for something that comes with a message, or with a loss.
        """

        async def wait() -> None:
            while not happened():
                self._came.clear()
                await self._came.wait()

        await asyncio.wait_for(wait(), 30)


@asynccontextmanager
async def machines(url: str, *fleets: str) -> AsyncIterator[list[Machine]]:
    """
    Workers that hear one another.
    """
    made = [Machine(url, fleet) for fleet in fleets]
    try:
        for machine in made:
            await machine.way.ready()
        yield made
    finally:
        for machine in made:
            await machine.way.close()


def test_other_machines_hear_all_in_order_and_the_own_one_nothing(server: RedisServer) -> None:
    """
    Since the own one has had it by its primary.
    """

    async def run() -> None:
        async with machines(server.url, "a", "a", "b") as (one, two, other):
            sent = [b"%d" % number for number in range(5000)] + [bytes(3_000_000)]
            one.publish(*sent)
            await one.way.sync()
            await other.until(lambda: len(other.heard) == len(sent))
            assert other.heard == sent
            other.publish(b"back")
            await one.until(lambda: one.heard)
            await two.until(lambda: two.heard)
            assert one.heard == two.heard == [b"back"]
            assert not one.lost + two.lost + other.lost

    asyncio.run(run())


def test_goes_on_after_redis_was_away_and_counts_what_was_lost(server: RedisServer) -> None:
    """
    Each side says what it has lost, and no password.
    """

    async def run() -> None:
        async with machines(server.url, "a", "b") as (one, other):
            one.publish(b"0")
            await other.until(lambda: other.heard)
            server.kill()
            sent = 1
            while b"back" not in other.heard[-1]:
                if one.lost and server.process.returncode is not None:
                    assert server.start()
                one.publish(b"%d%b" % (sent, b"back" if one.lost else b""))
                sent += 1
                await asyncio.sleep(0.01)
            # All that has not come is known to be missing.
            await other.until(lambda: len(other.heard) + other.lost >= sent - 1)
            assert one.lost
            assert other.lost
            numbers = [int(data.removesuffix(b"back")) for data in other.heard]
            assert numbers == sorted(set(numbers))
            assert len(numbers) + other.lost == numbers[-1] + 1

    with capturedLogs() as logged:
        asyncio.run(run())
    told = [event.get("event") for event in logged]
    assert told.count("bus.redis-away") == told.count("bus.redis-back") == 2
    assert "s3cret" not in repr([(event["log_format"], str(event)) for event in logged])


class Exchange:
    """
    Two machines that each publish the same numbers.
    """

    def __init__(self, one: Machine, other: Machine) -> None:
        self._machines = (one, other)
        self._sent = 0

    async def _publish(self) -> None:
        for machine in self._machines:
            machine.publish(b"%d" % self._sent)
        self._sent += 1
        await asyncio.sleep(0.01)

    async def _publish_until_heard(self) -> None:
        first = self._sent
        while not all(each.heard and int(each.heard[-1]) >= first for each in self._machines):
            await self._publish()

    async def go_on_after(self, break_it: Callable[[], object]) -> None:
        """
        What breaks the connections loses messages at most: each of both hears the other again, in
        order and once, and all that has not come is counted.
        """
        await asyncio.wait_for(self._publish_until_heard(), 30)
        breaking = asyncio.ensure_future(asyncio.to_thread(break_it))
        while not breaking.done():
            await self._publish()
        await breaking
        await asyncio.wait_for(self._publish_until_heard(), 60)
        for machine in self._machines:
            numbers = [int(data) for data in machine.heard]
            assert numbers == sorted(set(numbers))
            missing = numbers[-1] + 1 - len(numbers)
            await machine.until(partial(machine.has_lost, missing))


@pytest.mark.soak
def test_sentinels(tmp_path: Path) -> None:
    """
    It goes on with whom they name: when the primary is dead, and when another one was chosen.
    """

    def kill() -> None:
        former = sentinels.primary()
        former.kill()
        sentinels.wait_for_failover(former)
        assert former.start()
        sentinels.wait_for_replicas()

    def choose() -> None:
        former = sentinels.primary()
        sentinels.sentinels[0].ask("SENTINEL", "FAILOVER", sentinels.service)
        sentinels.wait_for_failover(former)

    async def run() -> None:
        async with machines(sentinels.url, "a", "b") as (one, other):
            exchange = Exchange(one, other)
            for break_it in (kill, choose):
                await exchange.go_on_after(break_it)

    with Sentinels(tmp_path) as sentinels:
        asyncio.run(run())


@pytest.mark.soak
def test_cluster(tmp_path: Path) -> None:
    """
    Any node will do, whichever each of them is connected to, and when some of them die.
    """

    def kill(number: int) -> None:
        cluster.servers[number].kill()
        cluster.wait_for_takeover(number)
        assert cluster.servers[number].start()

    async def run() -> None:
        async with machines(cluster.url, "a", "b") as (one, other):
            exchange = Exchange(one, other)
            for number in range(3):
                await exchange.go_on_after(partial(kill, number))

    with Cluster(tmp_path, replicas=True) as cluster:
        asyncio.run(run())


def test_garbage_in_the_channel_is_passed_over(server: RedisServer) -> None:
    """
    It is another program's, or of another version.
    """

    async def run() -> None:
        async with machines(server.url, "a", "b") as (one, other):
            with server.client() as client:
                for data in (b"hello", b"", b"SBU1" + bytes(40)):
                    client.publish("stickyd:bus", data)
            one.publish(b"1")
            await other.until(lambda: other.heard)
            assert other.heard == [b"1"]

    with capturedLogs() as logged:
        asyncio.run(run())
    assert [event["event"] for event in logged if "event" in event] == ["bus.redis-garbage"] * 2


def test_serves_without_redis_and_finds_it_later(server: RedisServer) -> None:
    """
    A worker does not wait for one that is away.
    """

    async def run() -> None:
        server.kill()
        async with machines(server.url, "a", "b") as (one, other):
            one.publish(b"lost")
            await one.way.sync()
            assert server.start()
            while not other.heard:
                one.publish(b"1")
                await asyncio.sleep(0.01)

    asyncio.run(run())


def test_full_queue_loses_the_newest_and_counts_them(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What was taken arrives; the others know how much is missing.
    """
    monkeypatch.setattr("stickyd.messaging.redis_way.QUEUE_MESSAGES", 10)

    async def run() -> None:
        async with machines(server.url, "a", "b") as (one, other):
            one.publish(b"first")
            await other.until(lambda: other.heard)
            one.publish(*(b"%d" % number for number in range(25)))
            await one.way.sync()
            one.publish(b"last")
            await other.until(lambda: b"last" in other.heard)
            assert other.heard == [b"first", *(b"%d" % number for number in range(10)), b"last"]
            await other.until(lambda: other.lost == 15)
            await one.until(lambda: one.lost == 15)

    asyncio.run(run())


def test_check_says_what_is_wrong_and_no_secret(server: RedisServer) -> None:
    """
    One line each.
    """
    most = "+ping +client +select"
    all_of_it = f"{most} +publish +subscribe"
    with server.client() as client:
        client.execute_command(f"ACL SETUSER deaf on >s3cret {most} +publish allchannels")
        client.execute_command(f"ACL SETUSER quiet on >s3cret {all_of_it} &other")
        client.execute_command(f"ACL SETUSER app on >s3cret {all_of_it} &stickyd:bus")
    with RedisServer(server._directory / "no", "--rename-command", "PUBLISH", "no") as other:
        for url, complaint in (
            (server.url.replace("s3cret", "wr0ng"), "refuses the user or the password"),
            (server.url.replace(":s3cret@", ""), "refuses the user or the password"),
            (server.url.replace(":s3cret", "deaf:s3cret"), r"\+subscribe .*&stickyd:bus"),
            (server.url.replace(":s3cret", "quiet:s3cret"), "may not publish and subscribe"),
            (
                f"redis://:s3cret@127.0.0.1:{free_port()}",
                "cannot be reached: .*111",
            ),
            (other.url, "no Redis or Valkey that can carry the bus"),
        ):
            with pytest.raises(SettingError, match=complaint) as raised:
                asyncio.run(check_redis(read_redis_url(url, "--bus")))
            assert str(raised.value).startswith("--bus redis://127.0.0.1:")
            assert "s3cret" not in str(raised.value)
            assert "wr0ng" not in str(raised.value)
    for user in ("", "app"):
        url = server.url.replace(":s3cret", f"{user}:s3cret")
        asyncio.run(check_redis(read_redis_url(url, "--bus")))
