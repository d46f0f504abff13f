"""
The lease of all machines, in real servers.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from stickyd.leadership.redis_lease import BROKEN, RedisLease
from stickyd.redis.url import read_redis_url
from tests.sessions.redis_servers import (
    Cluster,
    RedisServer,
    Sentinels,
    redis_program,
    valkey_program,
)
from tests.system.server import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

#: Shorter than it is by default, and long enough for a slow machine.
LEASE_SECONDS = 2.0

#: Longer than any test.
LONG_SECONDS = 600.0

PATIENCE_SECONDS = 60.0


class Holders:
    """
    Ways to the lease, of several workers.
    """

    def __init__(self, server: RedisServer, prefix: str, stack: AsyncExitStack) -> None:
        self._url = f"{server.url}?prefix={prefix}:"
        self._stack = stack

    def make(self, lease_seconds: float = LEASE_SECONDS) -> RedisLease:
        """
        One more.
        """
        lease = RedisLease(read_redis_url(self._url), lease_seconds)
        self._stack.push_async_callback(lease.close)
        return lease


async def acquired(lease: RedisLease, holder: str) -> tuple[int, float]:
    """
    Ask for it until it is had.
    """
    while True:
        term, until = await lease.acquire(holder)
        if term:
            return term, until
        assert until <= LEASE_SECONDS
        await asyncio.sleep(until)


def run(
    server: RedisServer, prefix: str, work: Callable[[Holders], Coroutine[object, object, None]]
) -> None:
    """
    Run a test within reason.
    """

    async def main() -> None:
        async with AsyncExitStack() as stack:
            await work(Holders(server, prefix, stack))

    asyncio.run(asyncio.wait_for(main(), PATIENCE_SECONDS))


@pytest.mark.parametrize("program", [redis_program, valkey_program])
def test_one_holds_it(program: Callable[[], str], tmp_path: Path) -> None:
    """
    The holder keeps it; another fleet gets it when it is given up, and not before.  The next
    worker of the same fleet gets it at once.  Terms grow.
    """

    async def work(holders: Holders) -> None:
        mine, next_of_mine, other = (holders.make() for _ in range(3))
        before = time.time()
        first, _ = await acquired(mine, "fleet a")
        assert first >= before * 1000
        assert (await other.acquire("fleet b"))[0] == 0
        second, until = await next_of_mine.acquire("fleet a")
        assert second > first
        assert until <= time.monotonic() + LEASE_SECONDS
        # The former has died, and what it had sent comes late.
        assert await mine.renew("fleet a", first) == 0.0
        await mine.release("fleet a", first)
        assert await next_of_mine.renew("fleet a", second)
        assert (await other.acquire("fleet b"))[0] == 0
        await next_of_mine.release("fleet a", second)
        third, _ = await other.acquire("fleet b")
        assert third > second
        assert await next_of_mine.renew("fleet a", second) == 0.0

    with RedisServer(tmp_path, program=program()) as server:
        run(server, "one", work)


def test_it_runs_out(server: RedisServer) -> None:
    """
    A holder that is silent loses it; it has given up by its own clock before.
    """

    async def work(holders: Holders) -> None:
        mine, other = holders.make(0.5), holders.make(0.5)
        first, until = await acquired(mine, "fleet a")
        second, _ = await acquired(other, "fleet b")
        assert second > first
        assert time.monotonic() > until
        assert await mine.renew("fleet a", first) == 0.0

    run(server, "out", work)


def test_server_that_has_forgotten(tmp_path: Path) -> None:
    """
    After a restart with nothing kept nobody begins for as long as a lease lasts, but the holder
    goes on, and terms too.
    """

    async def work(holders: Holders) -> None:
        mine, other = holders.make(), holders.make()
        first, _ = await acquired(mine, "fleet a")
        await asyncio.to_thread(forgetful.kill)
        with pytest.raises(BROKEN):
            await mine.renew("fleet a", first)
        assert await asyncio.to_thread(forgetful.start)
        term, wait = await other.acquire("fleet b")
        assert (term, wait <= LEASE_SECONDS) == (0, True)
        assert await mine.renew("fleet a", first)
        assert (await other.acquire("fleet b"))[0] == 0
        await mine.release("fleet a", first)
        second, _ = await other.acquire("fleet b")
        assert second > first
        await asyncio.to_thread(forgetful.kill)
        assert await asyncio.to_thread(forgetful.start)
        for lease in (mine, other):
            with pytest.raises(BROKEN):
                await lease.renew("fleet b", second)
        # A holder of a former term, which has slept, is none.
        assert await other.renew("fleet b", second)
        assert await mine.renew("fleet a", first) == 0.0

    with RedisServer(tmp_path) as forgetful:
        run(forgetful, "forgotten", work)


def test_next_leader_at_a_server_that_has_forgotten(tmp_path: Path) -> None:
    """
    It knows from its primary that its fleet has the lease still, and does not wait; one of
    another fleet does, whatever it says of a term before.
    """

    async def work(holders: Holders) -> None:
        first, _ = await acquired(holders.make(), "fleet a")
        await asyncio.to_thread(forgetful.kill)
        assert await asyncio.to_thread(forgetful.start)
        assert (await holders.make().acquire("fleet b"))[0] == 0
        second, _ = await holders.make().acquire("fleet a", first)
        assert second > first
        assert (await holders.make().acquire("fleet b", first))[0] == 0
        await asyncio.to_thread(forgetful.kill)
        assert await asyncio.to_thread(forgetful.start)
        third, _ = await holders.make().acquire("fleet a", second)
        assert third > second

    with RedisServer(tmp_path) as forgetful:
        run(forgetful, "next", work)


def test_answer_of_nobody(server: RedisServer) -> None:
    """
    A question that is cancelled in the middle does not answer the next one.
    """

    async def work(holders: Holders) -> None:
        lease = holders.make(0.5)
        for _ in range(20):
            asking = asyncio.ensure_future(lease.renew("fleet a", 1))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
        term, _ = await acquired(lease, "fleet a")
        assert await lease.renew("fleet a", term)

    run(server, "cancelled", work)


def test_user_of_its_own(server: RedisServer) -> None:
    """
    What the documentation says that it may do is enough.
    """
    page = (ROOT / "docs/one-application.md").read_text()
    (rights,) = re.findall(r"`(\+eval [^`]*~stickyd:leader)`", page)
    (beside,) = re.findall(r"`(\+ping [^`]*&stickyd:bus)`", page)
    words = [*rights.split(), *beside.split()]
    with Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">s3cret", *words)

    async def work(_: Holders) -> None:
        lease = RedisLease(read_redis_url(f"redis://app:s3cret@127.0.0.1:{server.port}"), 0.5)
        term, _until = await acquired(lease, "fleet a")
        assert await lease.renew("fleet a", term)
        await lease.release("fleet a", term)
        await lease.close()

    run(server, "user", work)


@pytest.mark.soak
def test_cluster(tmp_path: Path) -> None:
    """
    The node that has the key is found, whichever it is and whichever was asked first.
    """

    async def work(cluster: Cluster) -> None:
        for number in range(12):
            lease = RedisLease(read_redis_url(f"{cluster.url}?prefix=app{number}:"), 0.5)
            term, _until = await acquired(lease, "fleet a")
            assert await lease.renew("fleet a", term)
            await lease.release("fleet a", term)
            await lease.close()

    with Cluster(tmp_path) as cluster:
        asyncio.run(asyncio.wait_for(work(cluster), PATIENCE_SECONDS))


@pytest.mark.soak
def test_sentinels(tmp_path: Path) -> None:
    """
    After a failover the holder goes on, whoever asks first of the new primary, and nobody else
    begins.
    """

    async def work(sentinels: Sentinels) -> None:
        address = read_redis_url(sentinels.url)
        short, mine, other = (
            RedisLease(address, seconds) for seconds in (LEASE_SECONDS, LONG_SECONDS, LONG_SECONDS)
        )
        first, _ = await acquired(short, "fleet a")
        await short.close()
        assert await mine.renew("fleet a", first)
        former = sentinels.primary()
        await asyncio.to_thread(former.kill)
        await asyncio.to_thread(sentinels.wait_for_failover, former)
        while True:
            try:
                term, _ = await other.acquire("fleet b")
            except BROKEN:
                continue
            break
        assert term == 0
        assert await renewed(mine, first)
        assert (await other.acquire("fleet b"))[0] == 0
        await mine.release("fleet a", first)
        assert (await other.acquire("fleet b"))[0] > first
        await mine.close()
        await other.close()

    with Sentinels(tmp_path) as sentinels:
        asyncio.run(asyncio.wait_for(work(sentinels), PATIENCE_SECONDS))


async def renewed(lease: RedisLease, term: int) -> float:
    """
    Renew it as soon as it can be.
    """
    while True:
        with suppress(*BROKEN):
            return await lease.renew("fleet a", term)
