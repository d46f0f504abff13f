"""
Sessions in Redis, as whole systems have them.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager
from random import choice
from typing import TYPE_CHECKING

import pytest

from tests.sessions.redis_servers import HOST, RedisServer
from tests.system.log import Log
from tests.system.programs import need_program
from tests.system.server import LONG, environment, twistd
from tests.system.session_counting import CountedSession, SessionCounting, Visitor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

APPLICATION = ("--asgi", "tests.system.counting_app:app")

#: A run for this many seconds instead of a few increments: make soak.
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """
    A server that keeps what it has acknowledged.
    """
    with RedisServer(tmp_path / "redis", "--appendonly", "yes") as server:
        yield server


@contextmanager
def monitored(redis: RedisServer) -> Iterator[Callable[[], list[str]]]:
    """
    Have redis-cli write down what a server is asked; gives what tells the commands that came
    since it was asked last.
    """
    command = [need_program("redis-cli"), "-p", str(redis.port), "MONITOR"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    log = Log(process.stdout, lambda line: None)
    stack = ExitStack()
    try:
        log.wait_for("^OK$")
        client = stack.enter_context(closing(redis.client()))
        marks = iter(range(1_000))
        since = log.mark()

        def commands() -> list[str]:
            nonlocal since
            mark = f"mark-{next(marks)}"
            client.execute_command("ECHO", mark)
            log.wait_for(mark)
            lines, since = log.lines[since:], log.mark()
            # What scripts do is no round trip.
            asked = [re.search(r'\[\d+ (\S+)\] "(\w+)"', line) for line in lines]
            return [
                match[2]
                for match in asked
                if match and match[1] != "lua" and match[2] not in ("CLIENT", "ECHO", "HELLO")
            ]

        yield commands
    finally:
        stack.close()
        process.kill()
        process.wait()
        log.wait_for_end()


def test_round_trips(start: Start, redis: RedisServer) -> None:
    """
    A request without a session costs no round trip, a read of a session that the worker has
    none, a change one.
    """
    server = start("--sessions", redis.url, "--affinity", "cookie:place", *APPLICATION, workers=2)

    async def check(commands: Callable[[], list[str]]) -> None:
        visitor, session, none = Visitor(server.target), CountedSession(), CountedSession()
        assert (await visitor.get("/change", session)) == (200, b"1")
        assert (await visitor.get("/change", session)) == (200, b"2")
        commands()
        for number in range(3, 6):
            assert (await visitor.get("/change", session)) == (200, b"%d" % number)
            assert commands() == ["EVALSHA"]
        for _ in range(5):
            assert (await visitor.get("/read", session)) == (200, b"5")
            assert (await visitor.get("/none", none)) == (200, b"")
            assert (await visitor.get("/read", none)) == (200, b"0")
        assert commands() == []
        visitor.close()

    with monitored(redis) as commands:
        asyncio.run(check(commands))


def test_check(tmp_path: Path) -> None:
    """
    ``--check`` connects: a wrong password is one line and no traceback; what loses sessions is
    warned of; and no line has a password.
    """

    def run(url: str) -> subprocess.CompletedProcess[str]:
        command = twistd("-n", "--pidfile=", "stickyd", "--check", "--sessions", url)
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=LONG,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr
        assert "s3cret" not in done.stdout + done.stderr
        return done

    with RedisServer(tmp_path, password="s3cret") as redis:
        done = run(redis.url)
        assert done.returncode == 0
        assert f"the Redis at {redis.address}: appendonly no: " in done.stdout + done.stderr
        done = run(f"redis://:s3cret-but-wrong@{redis.address}")
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert line.startswith(f"stickyd: --sessions redis://{redis.address}/0: ")
        assert "refuses the password or the user" in line


def test_sessions_outlive_all_servers(start: Start, redis: RedisServer) -> None:
    """
    A killed worker, a killed primary, and another machine: the session is there.
    """
    first = start("--sessions", redis.url, *APPLICATION, workers=1)
    second = start("--sessions", redis.url, *APPLICATION, workers=1)
    session = CountedSession()

    async def visit(server: Server, number: int) -> None:
        visitor = Visitor(server.target)
        assert (await visitor.get("/change", session)) == (200, b"%d" % number)
        visitor.close()

    asyncio.run(visit(first, 1))
    worker = first.worker(0)
    first.allow(f"Worker {worker} .*signal 9")
    os.kill(worker, signal.SIGKILL)
    first.wait_for_successor(worker)
    asyncio.run(visit(first, 2))
    first.reload()
    asyncio.run(visit(first, 3))
    asyncio.run(visit(second, 4))
    asyncio.run(visit(first, 5))
    first.kill()
    asyncio.run(visit(second, 6))


def test_redis_is_away(start: Start, redis: RedisServer) -> None:
    """
    While Redis is away for longer than the grace, whoever needs their session is told when to
    come again, and who needs none is served; then all is there again.
    """
    server = start("--sessions", redis.url, "--session-grace", "0.2", *APPLICATION, workers=1)
    server.allow("is away")

    async def check() -> None:
        visitor, session, none = Visitor(server.target), CountedSession(), CountedSession()
        assert (await visitor.get("/change", session)) == (200, b"1")
        redis.kill()
        status, _ = await visitor.get("/change", session)
        assert status == 503
        assert (await visitor.get("/none", none)) == (200, b"")
        assert redis.start()
        server.log.wait_for("is there again")
        status, body = await visitor.get("/read", session)
        # The write that was refused may have been done.
        assert (status, body) in ((200, b"1"), (200, b"2"))
        visitor.close()

    asyncio.run(check())


def test_logout_on_another_worker(start: Start, redis: RedisServer) -> None:
    """
    A session that was ended at one worker is over at the others, also where it was kept.
    """
    server = start("--sessions", redis.url, *APPLICATION, workers=3)

    async def check() -> None:
        session = CountedSession()
        visitors = [Visitor(server.target, f"127.0.0.{number}") for number in range(1, 9)]
        assert (await visitors[0].get("/change", session)) == (200, b"1")
        for visitor in visitors:
            assert (await visitor.get("/read", session)) == (200, b"1")
        stolen = CountedSession(dict(session.cookies))
        assert (await visitors[0].get("/logout", session))[0] == 200
        for visitor in visitors:
            assert (await visitor.get("/read", stolen)) == (200, b"0")
            visitor.close()

    asyncio.run(check())


async def kill_and_restart(
    kill: Callable[[], None], counting: SessionCounting, seconds: float, increments: int
) -> None:
    """
    Count while something is killed again and again.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    begun = counting.done

    def over() -> bool:
        if SOAK_SECONDS:
            return loop.time() - began > seconds
        return counting.done - begun > increments

    work = loop.create_task(counting.count_until(over, 16))
    while not work.done():
        await loop.run_in_executor(None, kill)
        await asyncio.wait([work], timeout=0.5)
    await work


def check_killing(start: Start, redis: RedisServer) -> SessionCounting:
    """
    Count while workers are killed, and the primary.
    """
    listener = socket.create_server((HOST, 0), backlog=1_000)
    with listener:
        options = ("--sessions", redis.url, *APPLICATION)

        def start_one(ready: bool = True) -> Server:
            server = start(*options, workers=2, listener=listener, ready=ready)
            server.allow("signal 9", "is away", "SIGKILL")
            return server

        server = start_one()
        counting = SessionCounting([server.target])

        def kill_worker() -> None:
            serving = server.serving()
            if serving:
                try:
                    os.kill(choice(serving), signal.SIGKILL)
                except ProcessLookupError:
                    pass  # the log tells of its end in a moment

        async def check() -> None:
            nonlocal server
            await counting.create(20)
            loop = asyncio.get_running_loop()
            for _ in range(3 if SOAK_SECONDS else 1):
                await kill_and_restart(kill_worker, counting, SOAK_SECONDS / 4, 150)
                server.kill()
                server = await loop.run_in_executor(None, start_one)
            await kill_and_restart(kill_worker, counting, SOAK_SECONDS / 4, 150)
            await loop.run_in_executor(None, lambda: server.log.wait_for("online", timeout=LONG))
            assert await counting.wrong() == []

        asyncio.run(check())
    return counting


def test_killing(start: Start, redis: RedisServer) -> None:
    """
    Workers are killed every half second, and the primary (three times, by make soak): every
    increment that was acknowledged is there, and none is there twice but those whose answer was
    lost.
    """
    check_killing(start, redis)


@pytest.mark.soak
def test_killing_for_long(
    start: Start, redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The same, for a minute.
    """
    counting = check_killing(start, redis)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{counting.done} increments acknowledged, 0 lost; without an answer or refused:"
            f" {counting.unknown} {counting.refused}\n"
        )


def check_two_primaries(start: Start, redis: RedisServer, sessions: int, increments: int) -> str:
    """
    Count in the same sessions through two primaries, and whatever workers.
    """
    servers = [start("--sessions", redis.url, *APPLICATION, workers=2) for _ in range(2)]
    counting = SessionCounting([server.target for server in servers])

    async def check() -> str:
        loop = asyncio.get_running_loop()
        await counting.create(sessions)
        began = loop.time()
        await counting.count_until(lambda: counting.done >= increments, 32, step=10)
        seconds = loop.time() - began
        assert await counting.wrong() == []
        assert counting.unknown == 0
        return f"{counting.done} increments of {sessions} sessions in {seconds:.0f} s, 0 lost"

    return asyncio.run(check())


def test_two_primaries(start: Start, redis: RedisServer) -> None:
    """
    Two primaries on one Redis without stickiness: no increment is lost.
    """
    check_two_primaries(start, redis, sessions=50, increments=20_000)


@pytest.mark.soak
def test_two_primaries_for_long(
    start: Start, redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The same, a million times.
    """
    figures = check_two_primaries(start, redis, sessions=1_000, increments=1_000_000)
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")
