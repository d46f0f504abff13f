"""
The store in Redis keeps the contract, on real servers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pytest
from twisted.trial.unittest import SynchronousTestCase

from stickyd.redis.url import read_redis_url
from stickyd.sessions.conformance import SessionStoreConformance
from stickyd.sessions.record import new_uid
from stickyd.sessions.stores.redis import RedisSessionStore
from tests.sessions.losing_proxy import LosingProxy
from tests.sessions.redis_servers import Cluster, RedisServer, Sentinels, valkey_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.internet.defer import Deferred
    from twisted.internet.task import Clock

_T = TypeVar("_T")


class RedisConformance(SessionStoreConformance):
    """
    Runs the store's loop until it has answered.
    """

    url: ClassVar[str]

    def make_store(self, clock: Clock) -> RedisSessionStore:
        self.loop = asyncio.new_event_loop()
        return RedisSessionStore(clock, self.loop, read_redis_url(self.url))

    def tearDown(self) -> None:
        super().tearDown()
        self.loop.close()

    def settle(self, deferred: Deferred[_T]) -> _T:
        async def answer() -> Any:
            return await deferred.asFuture(self.loop)

        result: _T = self.loop.run_until_complete(answer())
        return result


class TestRedis(RedisConformance, SynchronousTestCase):
    """
    One Redis, of Debian.
    """

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """
        Start it.
        """
        with RedisServer(tmp_path_factory.mktemp("redis")) as server:
            cls.url = server.url
            yield


class TestLostAnswers(RedisConformance, SynchronousTestCase):
    """
    A Redis of which every second answer is lost: all is done, and once.
    """

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """
        Start it.
        """
        with RedisServer(tmp_path_factory.mktemp("redis")) as server:
            cls.port = server.port
            yield

    port: ClassVar[int]

    def make_store(self, clock: Clock) -> RedisSessionStore:
        self.loop = asyncio.new_event_loop()
        self.proxy = LosingProxy(self.port, 2)
        self.loop.run_until_complete(self.proxy.start())
        address = read_redis_url(f"redis://127.0.0.1:{self.proxy.port}")
        return RedisSessionStore(clock, self.loop, address)

    def tearDown(self) -> None:
        self.settle(self.store.stop())
        self.loop.run_until_complete(self.proxy.stop())
        super().tearDown()

    def test_lost(self) -> None:
        """
        Answers are lost in these tests.
        """
        for _ in range(4):
            self.saved()
        assert self.proxy.lost >= 3

    def test_unknown(self) -> None:
        """
        Whether there was anything to delete is not known of a delete that was sent twice: it says
        that there was.  Of the others there is nothing.
        """
        uid = new_uid()
        assert self.settle(self.store.touch(uid)) is False
        assert self.settle(self.store.delete(uid)) is True

    test_delete = test_over_is_gone = test_hidden_id = test_unknown


class TestValkey(RedisConformance, SynchronousTestCase):
    """
    One Valkey.
    """

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """
        Start it.
        """
        directory = tmp_path_factory.mktemp("valkey")
        with RedisServer(directory, program=valkey_program()) as server:
            cls.url = f"valkey://{server.address}"
            yield


class TestSentinel(RedisConformance, SynchronousTestCase):
    """
    A primary that Sentinels name, and a replica that must have each write.
    """

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """
        Start them.
        """
        with Sentinels(tmp_path_factory.mktemp("sentinel")) as sentinels:
            cls.url = f"{sentinels.url}&wait=1"
            yield


class TestCluster(RedisConformance, SynchronousTestCase):
    """
    A Cluster of three.
    """

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """
        Start it.
        """
        with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
            cls.url = cluster.url
            yield
