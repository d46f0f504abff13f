"""
What an operator is told of a Redis: one line each, without a password.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.errors import SettingError
from stickyd.redis.url import RedisAddress, read_redis_url
from stickyd.sessions.stores.redis import RedisSessionStore
from stickyd.sessions.stores.redis_check import faults_of
from tests.sessions.redis_counting import RealClock, new_record, settled
from tests.sessions.redis_servers import HOST, Cluster, RedisServer, Sentinels
from tests.system.log import PATIENCE
from tests.tls_harness import write_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def check(url: str) -> list[str]:
    """
    Start a store, and ask what is wrong with it.
    """

    async def ask() -> list[str]:
        loop = asyncio.get_running_loop()
        store = RedisSessionStore(RealClock(), loop, read_redis_url(url))
        try:
            await settled(store.start(0))
            faults: list[str] = await settled(store.check())
        finally:
            await settled(store.stop())
        return faults

    return asyncio.run(ask())


def refused(url: str) -> str:
    """
    The one line that says why it cannot be used.
    """
    with pytest.raises(SettingError) as raised:
        check(url)
    line = str(raised.value)
    assert "\n" not in line
    assert "s3cret" not in line
    return line


@contextmanager
def answering(answer: bytes, info: bytes = b"") -> Iterator[int]:
    """
    A server that answers whatever it is asked, but for ``INFO``; gives its port.
    """
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer, suppress(OSError):
                    while asked := peer.recv(65_536):
                        if b"INFO\r\n" in asked.replace(b"SETINFO", b""):
                            peer.sendall(b"$%d\r\n%s\r\n" % (len(info), info))
                        else:
                            peer.sendall(answer * max(1, asked.count(b"CLIENT")))

        thread = Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def test_well_kept(tmp_path: Path) -> None:
    """
    Of a server that keeps what it is given there is nothing to say.
    """
    with RedisServer(tmp_path, "--appendonly", "yes", password="s3cret") as server:
        assert check(server.url) == []


def test_careless(tmp_path: Path) -> None:
    """
    One that forgets is warned of, and so is a wait for replicas that it has not.
    """
    with RedisServer(tmp_path, "--maxmemory-policy", "allkeys-lru") as server:
        faults = check(f"{server.url}?wait=2")
    assert all(fault.startswith(f"the Redis at {server.address}: ") for fault in faults)
    text = "\n".join(faults)
    assert "maxmemory-policy allkeys-lru removes sessions in silence" in text
    assert "appendonly no: what was written since its last snapshot is lost" in text
    assert "it has 0 replicas, but wait=2: no write would be acknowledged" in text
    assert len(faults) == 3


@pytest.mark.parametrize(
    ("facts", "skew_seconds", "fault"),
    [
        ({"maxmemory_policy": "volatile-ttl"}, 0.0, "maxmemory-policy volatile-ttl"),
        ({"aof_enabled": "0"}, 0.0, "appendonly no"),
        ({}, 1.5, "its clock is 1.5 s ahead of ours"),
        ({}, -90.0, "its clock is 90.0 s behind ours"),
    ],
)
def test_faults(facts: dict[str, str], skew_seconds: float, fault: str) -> None:
    """
    Each fault has a line of its own.
    """
    address = RedisAddress("server", (("db", 6379),))
    [line] = faults_of(address, facts, skew_seconds)
    assert fault in line


def test_password(tmp_path: Path) -> None:
    """
    A password that is wrong, or missing.
    """
    with RedisServer(tmp_path, password="right") as server:
        for login in (":s3cret@", "app:s3cret@", ""):
            line = refused(f"redis://{login}{server.address}")
            assert f"{server.address} refuses the password or the user" in line
            assert "write them as redis://USER:PASSWORD@" in line


def test_permissions(tmp_path: Path) -> None:
    """
    A user who may do what the documentation says is enough, and one of others' keys, or without
    scripts, who is not.
    """
    needed = (
        *("+@hash", "+@scripting", "+@connection"),
        *("+info", "+time", "+role", "+del", "+pexpire", "+persist", "+wait"),
    )
    with RedisServer(tmp_path, "--appendonly", "yes") as server:

        def allow(*rules: str) -> str:
            server.ask("ACL", "SETUSER", "app", "reset", "on", ">s3cret", *rules)
            return f"redis://app:s3cret@{server.address}"

        url = allow("~stickyd:*", *needed)
        assert check(url) == []

        async def use() -> None:
            loop = asyncio.get_running_loop()
            store = RedisSessionStore(RealClock(), loop, read_redis_url(url))
            old, new = [await settled(store.save(new_record(b"{}"))) for _ in range(2)]
            assert await settled(store.touch(old.uid))
            assert await settled(store.alias(old.uid, 1, new.uid, 10))
            assert await settled(store.delete(old.uid))
            await settled(store.stop())

        asyncio.run(use())
        for rules in (("~shop:*", *needed), ("~stickyd:*", *needed, "-@scripting")):
            line = refused(allow(*rules))
            assert "the user may not do what sessions take" in line
            assert "allow ~stickyd:* +@hash" in line


def test_replica(tmp_path: Path) -> None:
    """
    A replica would lose what is written, if it took any.
    """
    with RedisServer(tmp_path / "first") as first:
        replicaof = (HOST, str(first.port))
        with RedisServer(tmp_path / "second", "--replicaof", *replicaof) as second:
            line = refused(second.url)
    assert f"is a replica of {first.address}; write the primary, or redis+sentinel" in line


def test_wrong_form(tmp_path: Path) -> None:
    """
    A Cluster that is no such, and a server that is a node of one.
    """
    with RedisServer(tmp_path / "alone") as server:
        line = refused(f"redis+cluster://{server.address}")
        assert f"{server.address} is no node of a Cluster" in line
    with Cluster(tmp_path / "cluster") as cluster:
        node = cluster.servers[0]
        line = refused(node.url)
        assert f"is a node of a Cluster; write redis+cluster://{node.address}" in line
        assert len(check(f"redis+cluster://{node.address}")) == 3  # appendonly no, of each


def test_no_such_service(tmp_path: Path) -> None:
    """
    A service that the Sentinels do not know is told by --check; so is a database.
    """
    with Sentinels(tmp_path) as sentinels:
        line = refused(sentinels.url.replace("stickyd", "shop"))
        said = "no Sentinel names the primary of 'shop': a Sentinel does not know it"
        assert line.endswith(f"it cannot be reached: {said}")
        line = refused(sentinels.url.replace("stickyd/0", "stickyd/99"))
        assert "DB index is out of range" in line
        line = refused(sentinels.url.replace("=of-sentinels", "=s3cret"))
        assert "a Sentinel refuses the password or the user" in line
        line = refused(sentinels.url.replace(":of-servers", ":s3cret"))
        assert f"{sentinels.servers[0].address} refuses the password or the user" in line


def test_host_that_does_not_resolve() -> None:
    """
    The resolver's own words, and the host.
    """
    line = refused("redis://app:s3cret@no-such-host.invalid")
    assert "the host does not resolve: no-such-host.invalid: " in line


def test_nobody_there() -> None:
    """
    One that is away may come back, so a store starts without it; --check says that it is away.
    """
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    line = refused(f"redis://:s3cret@{HOST}:{port}")
    assert line.startswith(f"--sessions redis://{HOST}:{port}/0: it cannot be reached: ")

    async def start() -> None:
        loop = asyncio.get_running_loop()
        store = RedisSessionStore(RealClock(), loop, read_redis_url(f"redis://{HOST}:{port}"))
        await settled(store.start(0))
        await settled(store.stop())

    asyncio.run(start())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no Redis"),
        (b"-ERR unknown command\r\n", "says: "),
    ],
)
def test_something_else(answer: bytes, said: str) -> None:
    """
    What answers is another server.
    """
    with answering(answer, b"HTTP") as port:
        assert said in refused(f"redis://{HOST}:{port}")


def test_old_release() -> None:
    """
    A release that is too old is named, and what is needed.
    """
    with answering(b"+OK\r\n", b"redis_version:5.0.14\r\nrole:master\r\n") as port:
        assert "is of release 5.0.14; it must be 6.0 or later" in refused(f"redis://{HOST}:{port}")


def test_tls(tmp_path: Path) -> None:
    """
    TLS, with the certificates that sign the server's; without them, and without TLS, the line
    says what to write.
    """
    certificate, key = write_certificate(tmp_path, "server", "localhost").split(",")
    options = ("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no")
    with RedisServer(tmp_path / "data", *options, "--appendonly", "yes", tls=True) as server:
        url = f"rediss://localhost:{server.tls_port}"
        assert check(f"{url}?ca={certificate}") == []
        assert "write ?ca=FILE" in refused(url).replace("with ?ca", "write ?ca")
        assert "No such file" in refused(f"{url}?ca={tmp_path}/none.pem")
        (tmp_path / "empty.pem").write_text("")
        assert "there is no certificate in it" in refused(f"{url}?ca={tmp_path}/empty.pem")

        async def save() -> Any:
            loop = asyncio.get_running_loop()
            address = read_redis_url(f"{url}?ca={certificate}")
            store = RedisSessionStore(RealClock(), loop, address)
            record = await settled(store.save(new_record(b"{}")))
            assert await settled(store.load(record.uid)) == record
            await settled(store.stop())

        asyncio.run(save())
