"""
The bus of two primaries by way of a real Redis.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.sessions.redis_servers import RedisServer
from tests.system.client import Client, ask_once
from tests.system.server import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

APP = ("--resource", "tests.system.bus_app:site", "--spares", "0")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """
    A server with a password.
    """
    with RedisServer(tmp_path, password="s3cret") as server:
        yield server


def publish(server: Server, *messages: str) -> None:
    """
    Have messages published, and wait until all who can hear them do.
    """
    for message in messages:
        assert ask_once(server.target, path=f"/publish/{message}").status == 200


def heard(server: Server, count: int) -> list[str]:
    """
    What a worker has heard, once it is so much.
    """
    with Client(server.target, timeout=LONG) as client:
        found: list[str] = client.ask(f"/heard/{count}").told["heard"]
    return found


def test_two_machines_are_one(start: Start, redis: RedisServer) -> None:
    """
    In order and once each, while one of them replaces its code, and again after Redis was away.
    """
    one, other = (start(*APP, "--bus", redis.url, workers=1, ready=False) for _ in range(2))
    for server in (one, other):
        server.wait_until_ready()
        server.allow("is away: .* messages", "of another machine did not reach this worker")
    publish(one, "a")
    publish(other, "b")
    assert heard(one, 2) == heard(other, 2) == ["a", "b"]
    with Client(one.target, timeout=LONG) as waiting:
        waiting.send("/heard/6")
        since = one.log.mark()
        one.send(signal.SIGUSR2)
        one.log.wait_for("Upgrading: this process becomes", since, timeout=LONG)
        publish(other, "c", "d", "e")
        one.log.wait_for("Reloaded: every worker is fresh|Worker .* online", since, timeout=LONG)
        publish(other, "f")
        # The relieved worker has missed nothing.
        assert waiting.answer().told["heard"] == ["a", "b", "c", "d", "e", "f"]
    redis.kill()
    for server in (one, other):
        server.log.wait_for("is away: ", timeout=LONG)
    publish(one, "lost")
    publish(other, "lost")
    assert redis.start()
    for server in (one, other):
        server.log.wait_for("answers again after", timeout=LONG)
    before = heard(one, 0)
    publish(other, "last")
    assert heard(one, len(before) + 1) == [*before, "last"]
    assert heard(other, 8)[-2:] == ["lost", "last"]
    for server in (one, other):
        assert "s3cret" not in server.log.text
        server.stop()


def test_wrong_redis_is_one_line(start: Start, redis: RedisServer) -> None:
    """
    The server does not start with it.
    """
    url = redis.url.replace("s3cret", "wr0ng")
    server = start(*APP, "--bus", url, workers=1, ready=False)
    assert server.wait_until_gone(LONG) == 1
    assert "refuses the user or the password" in server.log.text
    assert "Traceback" not in server.log.text
    assert "wr0ng" not in server.log.text
