"""
Holding the lease of all machines, and giving it back, in a real server.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.python.threadpool import ThreadPool

from stickyd.leadership.leadership import Leadership
from stickyd.leadership.lease_return import LeaseReturn
from stickyd.leadership.redis_lease import RedisLease
from stickyd.leadership.tenure import Tenure
from stickyd.redis.url import RedisAddress, read_redis_url
from tests.leadership.test_leadership import Primary
from tests.sessions.redis_servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

#: Longer than any test: what is had before has been given back.
LEASE_SECONDS = 600.0

PATIENCE_SECONDS = 60.0


class Machine:
    """
    A worker that was named.

    :ivar held: the terms of which its primary was told.
    """

    def __init__(self, address: RedisAddress, fleet: str, held: tuple[int, float]) -> None:
        self._leadership = Leadership()
        self._leadership.forbid()
        primary = Primary()
        self._leadership.open(primary)
        self._leadership.subscribe(lambda: None, None, False)
        primary.turn()
        self.held: list[int] = []
        self._told = asyncio.Event()
        self.tenure = Tenure(
            RedisLease(address, LEASE_SECONDS),
            fleet,
            held,
            self._leadership,
            LEASE_SECONDS,
            self._hold,
            self._fail,
        )
        self.task = asyncio.ensure_future(self.tenure.run())

    def _hold(self, term: int, until: float) -> None:
        self.held.append(term)
        self._told.set()

    def _fail(self, problem: BaseException) -> None:
        raise AssertionError(problem)

    @property
    def leads(self) -> bool:
        """
        Whether it leads.
        """
        return self._leadership.leads

    async def has_it(self) -> int:
        """
        Wait until it holds the lease.

        :return: the term.
        """
        await asyncio.wait_for(self._told.wait(), PATIENCE_SECONDS)
        return self.held[-1]

    async def end(self, goes_on: Deferred[bool]) -> None:
        """
        End, and wait until it has.
        """
        self.tenure.end(goes_on)
        await asyncio.wait_for(self.task, PATIENCE_SECONDS)


@pytest.fixture
def address(server: RedisServer, request: pytest.FixtureRequest) -> RedisAddress:
    """
    A lease that nobody has yet.
    """
    made = read_redis_url(f"{server.url}?prefix={request.node.name}:")

    async def settle() -> None:
        # A server that sees its first one may have forgotten another one, for as long as it lasts.
        lease = RedisLease(made, 0.01)
        term, wait_seconds = await lease.acquire("nobody")
        while not term:
            await asyncio.sleep(wait_seconds)
            term, wait_seconds = await lease.acquire("nobody")
        await lease.release("nobody", term)
        await lease.close()

    asyncio.run(settle())
    return made


def test_it_is_given_back_unless_the_own_machine_goes_on(address: RedisAddress) -> None:
    """
    Whether it does is waited for.  The next worker here goes on at once; another machine waits, and
    begins at once when nobody here goes on.
    """

    async def main() -> None:
        first = Machine(address, "fleet a", (0, 0.0))
        term = await first.has_it()
        assert first.leads
        answer: Deferred[bool] = Deferred()
        first.tenure.end(answer)
        other = RedisLease(address, LEASE_SECONDS)
        answer.callback(True)
        await asyncio.wait_for(first.task, PATIENCE_SECONDS)
        assert (await other.acquire("fleet b"))[0] == 0
        second = Machine(address, "fleet a", (term, 0.0))
        assert await second.has_it() > term
        await second.end(succeed(False))
        assert (await other.acquire("fleet b"))[0] > 0
        await other.close()

    asyncio.run(main())


@pytest.mark.parametrize("steps", range(12))
def test_end_while_it_is_asked_for(address: RedisAddress, steps: int) -> None:
    """
    It does not begin then, or has ended, and nobody waits for what it was given all the same.
    """

    async def main() -> None:
        machine = Machine(address, "fleet a", (0, 0.0))
        for _ in range(steps):
            await asyncio.sleep(0)
        await machine.end(succeed(False))
        other = RedisLease(address, LEASE_SECONDS)
        assert (await other.acquire("fleet b"))[0] > 0
        await other.close()

    asyncio.run(main())


def test_who_never_began_gives_back_what_was_passed_on(address: RedisAddress) -> None:
    """
    A leader has died, the next one is told to end before it has asked for the lease.
    """

    async def main() -> None:
        dead, other = RedisLease(address, LEASE_SECONDS), RedisLease(address, LEASE_SECONDS)
        term, until = await dead.acquire("fleet a")
        await dead.close()
        machine = Machine(address, "fleet a", (term, until))
        await machine.end(succeed(False))
        assert machine.held == []
        assert (await other.acquire("fleet b"))[0] > term
        await other.close()

    asyncio.run(main())


class Reactor:
    """
    The threads of a reactor, which has none of its own to call back in.
    """

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool

    def getThreadPool(self) -> ThreadPool:  # noqa: N802 (Twisted's)
        return self._pool

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:  # noqa: N802
        call(*arguments)


def test_primary_gives_back_for_the_dead(address: RedisAddress, server: RedisServer) -> None:
    """
    That term alone: a later one is of a worker that lives.
    """

    def give_back(term: int, bus: str) -> None:
        pool = ThreadPool(0, 1)
        pool.start()
        LeaseReturn(Reactor(pool), lambda: bus).give_back("fleet a", term)
        pool.stop()  # it is done

    async def main() -> None:
        mine, other = RedisLease(address, LEASE_SECONDS), RedisLease(address, LEASE_SECONDS)
        former, _ = await mine.acquire("fleet a")
        term, _ = await mine.acquire("fleet a")
        url = f"{server.url}?prefix={address.prefix}"
        for held, bus in ((former, url), (term, "local"), (term, "redis://127.0.0.1:1")):
            await asyncio.to_thread(give_back, held, bus)
            assert (await other.acquire("fleet b"))[0] == 0
        await asyncio.to_thread(give_back, term, url)
        assert (await other.acquire("fleet b"))[0] > term
        await mine.close()
        await other.close()

    asyncio.run(main())
