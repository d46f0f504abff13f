"""
What goes wrong with a Redis while sessions are counted in it: nothing that was acknowledged is
lost, nothing is done twice.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf
from time import time
from typing import TYPE_CHECKING

import pytest

from stickyd.errors import NoSuchSession, SessionConflict, StoreAway
from stickyd.redis.url import read_redis_url
from stickyd.sessions.plain import encode
from stickyd.sessions.stores.redis import RedisSessionStore
from stickyd.sessions.stores.redis_record import key_of
from stickyd.sessions.stores.redis_scripts import SAVE, TOO_LATE
from stickyd.sessions.stores.standby import StandbyStore
from tests.sessions.redis_counting import Counting, RealClock, new_record, settled
from tests.sessions.redis_servers import SLOTS, Cluster, RedisServer, Sentinels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

#: More than any fault of these tests lasts.
GRACE_SECONDS = 20.0


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[RedisServer]:
    """
    A server that has its data again after a kill.
    """
    with RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@asynccontextmanager
async def opened(
    url: str, grace_seconds: float = GRACE_SECONDS
) -> AsyncIterator[RedisSessionStore]:
    """
    A store, started.
    """
    loop = asyncio.get_running_loop()
    store = RedisSessionStore(RealClock(), loop, read_redis_url(url), grace_seconds)
    await settled(store.start(0))
    try:
        yield store
    finally:
        await settled(store.stop())


async def count_through(
    store: RedisSessionStore, event: Callable[[], object], sessions: int = 20, more: int = 200
) -> Counting:
    """
    Count while something happens, and some more when it is over.
    """
    loop = asyncio.get_running_loop()
    counting = Counting(store)
    await counting.create(sessions)
    enough = inf
    work = loop.create_task(counting.count_until(lambda: counting.done >= enough, 20))
    await counting.wait_for(200)
    await loop.run_in_executor(None, event)
    enough = counting.done + more
    await work
    return counting


def test_restart_with_data(lasting: RedisServer) -> None:
    """
    A server that is killed and comes back with its data: all is done, once, and nobody hears.
    """

    def restart() -> None:
        lasting.kill()
        assert lasting.start()

    async def check() -> None:
        async with opened(lasting.url) as store:
            counting = await count_through(store, restart)
            assert await counting.wrong() == []
            assert counting.unknown == 0

    asyncio.run(check())


def test_restart_without_data(tmp_path: Path) -> None:
    """
    A server that comes back empty: the sessions are gone, and what was loaded before brings
    none back.
    """

    async def check() -> None:
        with RedisServer(tmp_path) as server:
            async with opened(server.url) as store:
                old = await settled(store.save(new_record(b"{}")))
                server.kill()
                assert server.start()
                assert await settled(store.load(old.uid)) is None
                with pytest.raises(NoSuchSession):
                    await settled(store.save(old))
                assert server.ask("DBSIZE") == 0
                new = await settled(store.save(new_record(b"{}")))
                assert await settled(store.load(new.uid)) == new

    asyncio.run(check())


def test_pause(lasting: RedisServer) -> None:
    """
    A server that stands still for longer than an answer takes: what was sent to it twice is
    done once.
    """

    async def check() -> None:
        async with opened(lasting.url) as store:
            counting = Counting(store)
            await counting.create(10)
            lasting.suspend()
            waiting = [asyncio.ensure_future(counting.increment(c)) for c in counting.counts]
            new = new_record(encode({"n": 0}))
            saving = asyncio.ensure_future(settled(store.save(new)))
            await asyncio.wait(waiting, timeout=2.5)
            lasting.resume()
            await asyncio.gather(*waiting)
            assert (counting.done, counting.unknown) == (10, 0)
            assert await counting.wrong() == []
            assert await settled(store.load(new.uid)) == await saving
            assert await settled(store.delete(new.uid))
            assert await settled(store.load(new.uid)) is None

    asyncio.run(check())


def test_pause_past_the_grace(lasting: RedisServer) -> None:
    """
    A server that is away for longer than the grace: who waits is told so then, who comes later
    at once; when it is there again, so is the store, and a write that was sent is known.
    """

    async def check() -> None:
        async with opened(lasting.url, grace_seconds=0.5) as store:
            record = await settled(store.save(new_record(b"{}")))
            lasting.suspend()
            change = replace(record, data=b'{"n":1}')
            with pytest.raises(StoreAway, match=f"the Redis at {lasting.address} is away"):
                await settled(store.save(change, b"nonce"))
            with pytest.raises(StoreAway):
                await settled(store.load(record.uid))
            lasting.resume()
            while True:
                try:
                    stored = await settled(store.save(change, b"nonce"))
                except StoreAway:
                    await asyncio.sleep(0.05)
                else:
                    break
            assert (stored.version, stored.data) == (2, b'{"n":1}')
            assert await settled(store.load(record.uid)) == stored
            with pytest.raises(SessionConflict):
                await settled(store.save(change, b"other"))

    asyncio.run(check())


def test_goes_on_in_memory_meanwhile(lasting: RedisServer) -> None:
    """
    ``--session-away memory``: what changes while the server is away goes on here, and is there
    when the server is, for everybody; a session of which there is no copy cannot be had.
    """

    async def check() -> None:
        async with opened(lasting.url, grace_seconds=0.3) as behind, opened(lasting.url) as other:
            clock = RealClock()
            store = StandbyStore(behind, clock, 10)
            record = await settled(store.save(new_record(b"{}")))
            removed = await settled(store.save(new_record(b"{}")))
            lasting.suspend()
            for n in range(3):
                change = replace(record, data=b'{"n":%d}' % n)
                record = await settled(store.save(change, b"nonce %d" % n))
                assert await settled(store.load(record.uid)) == record
            assert await settled(store.delete(removed.uid)) is True
            with pytest.raises(StoreAway):
                await settled(store.load(b"x" * 32))
            lasting.resume()
            while await settled(other.load(removed.uid)) is not None:
                await asyncio.sleep(0.02)
                clock.advance(0)  # calls what is due
            found = await settled(other.load(record.uid))
            assert found is not None
            assert found.data == record.data
            assert await settled(store.load(record.uid)) == record
            again = await settled(store.save(record, b"again"))
            assert again.version == record.version + 1
            await settled(store.stop())

    asyncio.run(check())


def test_connections_and_scripts_lost(lasting: RedisServer) -> None:
    """
    Connections that are ended while batches are under way, and scripts that are forgotten.
    """

    def disturb() -> None:
        for _ in range(10):
            lasting.ask("SCRIPT", "FLUSH")
            lasting.ask("CLIENT", "KILL", "TYPE", "normal")

    async def check() -> None:
        async with opened(lasting.url) as store:
            counting = await count_through(store, disturb)
            assert await counting.wrong() == []
            assert counting.unknown == 0

    asyncio.run(check())


def test_idle_connection_is_closed(lasting: RedisServer) -> None:
    """
    A connection that the server has closed meanwhile is made again, without a word.
    """

    async def check() -> None:
        async with opened(lasting.url, grace_seconds=5.0) as store:
            record = await settled(store.save(new_record(b"{}")))
            for _ in range(3):
                lasting.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                assert await settled(store.load(record.uid)) == record

    asyncio.run(check())


def test_no_room(tmp_path: Path) -> None:
    """
    A server that takes no more says so at once, and goes on being read.
    """

    async def check() -> None:
        with RedisServer(tmp_path, "--maxmemory-policy", "noeviction") as server:
            async with opened(server.url) as store:
                record = await settled(store.save(new_record(b"{}")))
                server.ask("CONFIG", "SET", "maxmemory", 1)
                with pytest.raises(StoreAway, match=r"takes no writes: .*'maxmemory'"):
                    await settled(store.save(new_record(b"{}")))
                assert await settled(store.load(record.uid)) == record
                server.ask("CONFIG", "SET", "maxmemory", 0)
                await settled(store.save(new_record(b"{}")))

    asyncio.run(check())


def test_late_command_makes_no_session(lasting: RedisServer) -> None:
    """
    The command for a new session that stayed in a dead connection, and is done when the session
    was made by another and deleted, makes none.
    """
    now = time()
    words: tuple[bytes | str | int, ...]
    words = (SAVE, 1, "key", 0, "nonce", repr(now), repr(now), "[900.0,null]", "{}")
    late = lasting.ask("EVAL", *words, int(now * 1000) - 1)
    assert late == TOO_LATE
    assert lasting.ask("EXISTS", "key") == 0
    assert lasting.ask("EVAL", *words, int(now * 1000) + 60_000) == repr(now).encode()
    assert 890_000 < lasting.ask("PTTL", "key") <= 900_000


@pytest.mark.parametrize(
    "words",
    [
        ("SET", "%s", "not a hash"),
        ("HSET", "%s", "v", "1", "t", "1.0", "m", "[", "d", "{}"),
        ("HSET", "%s", "v", "1", "d", "{}"),
        ("HSET", "%s", "v", "1", "t", "9e9", "m", '[900,null,1,null,false,""]', "d", "\x00"),
        ("HSET", "%s", "v", "1", "t", "9e9", "m", "[null,null]", "d", "{}"),
    ],
)
def test_unreadable(lasting: RedisServer, words: tuple[str, ...]) -> None:
    """
    What cannot be read is nobody's session, is left as it is, and counted.
    """
    record = new_record(b"{}")
    key = key_of(b"stickyd:", record.uid)
    lasting.ask(*(key if word == "%s" else word for word in words))
    before = lasting.ask("DUMP", key)

    async def check() -> None:
        async with opened(lasting.url) as store:
            assert await settled(store.load(record.uid)) is None
            assert store.unreadable == 1
            for version in (0, 5):
                with pytest.raises(SessionConflict):
                    await settled(store.save(replace(record, version=version)))

    asyncio.run(check())
    assert lasting.ask("DUMP", key) == before


def test_no_ids(lasting: RedisServer) -> None:
    """
    No id stands in the server, neither in keys nor in what they hold, nor that of an alias.
    """

    async def check() -> None:
        async with opened(f"{lasting.url}?prefix=shop:") as store:
            old = await settled(store.save(new_record(b"{}")))
            new = await settled(store.save(new_record(b"{}")))
            assert await settled(store.alias(old.uid, 1, new.uid, 10))
            keys = lasting.ask("KEYS", "*")
            assert len(keys) == 2
            assert all(key.startswith(b"shop:") and len(key) == 69 for key in keys)
            everything = repr([lasting.ask("HGETALL", key) for key in keys] + keys)
            assert old.uid.decode() not in everything
            assert new.uid.decode() not in everything

    asyncio.run(check())


def test_encrypted(lasting: RedisServer) -> None:
    """
    With keys, nothing of the data stands in the server, and no record passes for another.
    """
    secret = b"0123456789abcdef"

    async def check() -> None:
        loop = asyncio.get_running_loop()
        address = read_redis_url(lasting.url)
        store = RedisSessionStore(RealClock(), loop, address, keys=[secret])
        one, two = [
            await settled(store.save(new_record(b'{"name":"%s"}' % name)))
            for name in (b"Ada", b"Bob")
        ]
        keys = [key_of(b"stickyd:", record.uid) for record in (one, two)]
        texts = [lasting.ask("HGET", key, "d") for key in keys]
        assert b"Ada" not in texts[0]
        assert await settled(store.load(one.uid)) == one
        lasting.ask("HSET", keys[1], "d", texts[0])
        assert await settled(store.load(two.uid)) is None
        assert store.unreadable == 1
        plain = RedisSessionStore(RealClock(), loop, address)
        assert await settled(plain.load(one.uid)) is None
        for each in (store, plain):
            await settled(each.stop())

    asyncio.run(check())


def test_sentinel_failover(tmp_path: Path) -> None:
    """
    The primary dies; the Sentinels make another: what was acknowledged by two servers is there.
    """

    async def check() -> None:
        with Sentinels(tmp_path, "--appendonly", "yes", replicas=2) as sentinels:

            def fail_over() -> None:
                former = sentinels.primary()
                former.kill()
                sentinels.wait_for_failover(former)

            async with opened(f"{sentinels.url}&wait=1") as store:
                counting = await count_through(store, fail_over)
                assert await counting.wrong() == []

    asyncio.run(check())


@pytest.mark.soak
def test_three_failovers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The same three times in a row; who has died comes back as a replica.
    """

    async def check() -> None:
        with Sentinels(tmp_path, "--appendonly", "yes", replicas=2) as sentinels:

            def fail_over() -> None:
                for _ in range(3):
                    former = sentinels.primary()
                    former.kill()
                    sentinels.wait_for_failover(former)
                    assert former.start()
                    sentinels.wait_for_replicas()

            async with opened(f"{sentinels.url}&wait=1") as store:
                counting = await count_through(store, fail_over)
                assert await counting.wrong() == []
                with capsys.disabled():
                    sys.stdout.write(
                        f"\n3 failovers: {counting.done} acknowledged, 0 lost,"
                        f" {counting.unknown} unknown\n"
                    )

    asyncio.run(check())


def test_too_few_replicas(tmp_path: Path) -> None:
    """
    A write that no replica has is not acknowledged, and is known when it is repeated.
    """

    async def check() -> None:
        with RedisServer(tmp_path / "first") as server:
            async with opened(f"{server.url}?wait=1&wait_ms=50") as store:
                new = new_record(b"{}")
                with pytest.raises(StoreAway, match="0 of 1 replicas have said so within 50 ms"):
                    await settled(store.save(new, b"nonce"))
                replicaof = ("127.0.0.1", str(server.port))
                with RedisServer(tmp_path / "second", "--replicaof", *replicaof):
                    while True:
                        try:
                            stored = await settled(store.save(new, b"nonce"))
                        except StoreAway:
                            continue
                        break
                assert stored.version == 1

    asyncio.run(check())


def test_cluster_slots_move(tmp_path: Path) -> None:
    """
    Slots move to another node, key by key, and back, while their sessions are counted.
    """

    async def check() -> None:
        with Cluster(tmp_path) as cluster:
            first, _, last = cluster.servers
            slots = range(0, SLOTS // 3, 600)

            def move() -> None:
                for slot in slots:
                    cluster.move_slot(slot, first, last)
                for slot in slots[::3]:
                    cluster.move_slot(slot, last, first)

            async with opened(cluster.url) as store:
                counting = await count_through(store, move, sessions=300)
                assert await counting.wrong() == []
                assert counting.unknown == 0

    asyncio.run(check())


def test_cluster_node_dies(tmp_path: Path) -> None:
    """
    A primary of a Cluster dies, and its replica takes over.
    """

    async def check() -> None:
        with Cluster(tmp_path, replicas=True) as cluster:

            def die() -> None:
                cluster.servers[0].kill()
                cluster.wait_for_takeover(0)

            async with opened(f"{cluster.url}?wait=1&wait_ms=100") as store:
                counting = await count_through(store, die, sessions=60, more=0)
                assert await counting.wrong() == []
                # Its sessions can be read; none can be acknowledged without another replica.
                assert counting.gone == 0

    asyncio.run(check())
