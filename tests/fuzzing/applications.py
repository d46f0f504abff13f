"""
WSGI and ASGI applications that misbehave, in their hosts, before clients that may do so too.

Whatever an application does: its client gets a response or one that is visibly cut off, never
two; whoever comes next is served; nothing is left of it when its client has gone; and the log
tells of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import implementer

from stickyd.net.lingering_close import reset
from stickyd.net.readiness import readiness_of
from stickyd.serve.access_log import AccessLog
from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from stickyd.serve.http import HTTPContext
from stickyd.serve.http.deadlines import Deadlines
from stickyd.serve.wsgi.aging import Aging
from stickyd.serve.wsgi.host import WsgiHost
from stickyd.serve.wsgi.options import WsgiOptions
from stickyd.serve.wsgi.watch import ThreadWatch
from tests.fuzzing.asgi_script import AsgiScript
from tests.fuzzing.choices import Choices
from tests.fuzzing.judging import Asked, judge
from tests.fuzzing.wsgi_script import WsgiScript
from tests.hosting import Visitors, fired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hosting import Client

#: How long anything may take that must happen.
PATIENCE_SECONDS = 30.0

#: How long the kernel may keep what was sent.
SETTLING_SECONDS = 0.3

#: Turns of the loop after which nothing more happens by itself.
QUIET_TURNS = 12

#: What a host reads behind a request that is not answered yet.
READ_AHEAD_BYTES = 65536

#: What is mutated.  A good one, then one of each kind.
SEEDS = tuple(bytes(each) for each in (
    (0, 0, 0, 0, 0, 1, 0, 1, 2, 0, 0, 0),
    (0, 0, 0, 1, 3, 0, 2, 3, 1, 0, 16, 2, 3, 1),
    (1, 0, 0, 0, 1, 0, 0, 2, 0, 4, 5, 0, 0),
    (2, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 3, 0),
    (2, 1, 1, 0, 2, 1, 0, 16, 3, 3, 1, 1, 3, 0, 5, 1),
))  # fmt: skip

_METHODS = (
    ("GET", b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n", True),
    ("POST", b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", True),
    ("HEAD", b"HEAD %b HTTP/1.1\r\nHost: h\r\n\r\n", True),
    ("POST", b"POST %b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%b", True),
    ("POST", b"POST %b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
     True),
    ("GET", b"GET %b HTTP/1.0\r\n\r\n", True),
    ("POST", b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhello", False),
    ("POST", b"POST %%b HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n%b" % bytes(200_000),
     True),
)  # fmt: skip

_HANDSHAKE = (
    b"GET /0 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
#: Frames that a client may send behind it: text, a fragment, a close, and one without a mask.
_FRAMES = (b"", b"\x81\x82\0\0\0\0hi", b"\x01\x82\0\0\0\0hi", b"\x88\x82\0\0\0\0\x03\xe8",
           b"\x81\x02hi", b"\x89\x80\0\0\0\0")  # fmt: skip

_SANE = Asked("GET", "/sane", b"GET /sane HTTP/1.1\r\nHost: h\r\n\r\n")


class _Errors(logging.Handler):
    """
    How many errors were logged, by either way.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


_errors = _Errors()
_loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]


@implementer(ILogObserver)
def _observe(event: Any) -> None:
    if event["log_level"] in (LogLevel.error, LogLevel.critical, LogLevel.warn):
        _errors.count += 1


class _World:
    """
    The loop and the reactor on which all of them run.
    """

    def __init__(self) -> None:
        self.loop = asyncio.SelectorEventLoop()
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._fail)
        self.reactor: Any = AsyncioSelectorReactor(self.loop)
        self.problems: list[Any] = []

    def _fail(self, loop: object, context: dict[str, Any]) -> None:
        self.problems.append(context)

    @property
    def timers(self) -> list[Any]:
        """
        What is to be called later; but for those that look once a second whether there is
        anything to look after.
        """
        scheduled = self.loop._scheduled  # type: ignore[attr-defined]  # nothing else tells
        calls = [(each, each._callback) for each in scheduled if not each.cancelled()]
        # The reactor's own wakes it once for all of its timers, of which it tells itself.
        calls = [(each, call) for each, call in calls if call != self.reactor._onTimer]
        calls += [(each, each.func) for each in self.reactor.getDelayedCalls()]
        return [
            each
            for each, call in calls
            if not isinstance(getattr(call, "__self__", None), (ThreadWatch, Aging, Deadlines))
        ]


_world: _World | None = None


def world() -> _World:
    """
    Give the one that there is.
    """
    global _world
    if _world is None:
        _world = _World()
    return _world


class Run:
    """
    One application, one host, and its clients.
    """

    def __init__(self, data: bytes) -> None:
        choices = Choices(data)
        self.world = world()
        kind = choices.number(3)
        self.end = choices.number(4)
        self.websocket = kind == 1
        self.log = io.StringIO()
        self.asked = self._choose_requests(choices)
        self.script: Any
        self.host: Any
        if kind == 2:
            self.script = WsgiScript(choices)
            reactor = self.world.reactor
            self.host = WsgiHost(
                self.script,
                reactor,
                readiness_of(reactor),
                WsgiOptions(),
                HTTPContext(reactor),
                access_log=AccessLog(self.log, self.world.reactor),
            )
        else:
            self.script = AsgiScript(choices, self.websocket)
            options = AsgiOptions(lifespan="off")
            self.host = AsgiHost(
                self.script,
                self.world.loop,
                options=options,
                access_log=AccessLog(self.log, self.world.reactor),
            )
        self.wsgi = kind == 2
        self.visitors = Visitors()
        self.errors = _errors.count
        self.threads = threading.active_count()

    def _choose_requests(self, choices: Choices) -> list[Asked]:
        if self.websocket:
            message = _HANDSHAKE + choices.one_of(_FRAMES)
            return [Asked("GET", "/0", message, websocket=True)]
        asked = []
        for number in range(1 + choices.number(2)):
            method, form, whole = choices.one_of(_METHODS)
            path = b"/%d" % number
            body = b"5\r\nhello\r\n0\r\n\r\n"
            message = form % ((path, body) if form.count(b"%b") == 2 else path)
            asked.append(Asked(method, path.decode(), message, whole))
            if not whole:
                break
        return [*asked, _SANE] if asked[-1].whole else asked

    async def go(self) -> None:
        """
        Serve, and judge.
        """
        await fired(self.host.start())
        client = self.visitors.visit(self.host)
        stream = b"".join(each.message for each in self.asked)
        sending = asyncio.create_task(client.send(stream))
        if self.end == 1:  # It leaves while it is answered.
            await self._turns(3)
            sending.cancel()
            reset(client.socket)
            client.close()
        elif self.end == 2 and not self.websocket:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(sending), 0.01)
        got, ended, broken = await self._read(client)
        sending.cancel()
        if self.end != 1:
            self._judge(got, ended, broken)
        await self._be_served()
        if self.end != 3 and client.socket.fileno() >= 0:
            # Of a mere FIN nobody hears who has begun to answer and does not go on.
            reset(client.socket)
        client.close()
        await self._finish()

    async def _turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    @property
    def _still(self) -> bool:
        """
        Whether the application waits for something that is not going to happen by itself.
        """
        if not self.asked[-1].whole:
            return True  # it may wait for the rest
        if self.wsgi:
            threads = self.host._backend.threads
            busy = sum(seat.job is not None for seat in threads.seats)
            return not threads.waiting and busy <= self.script.hanging
        return bool(self.script.running <= self.script.hanging)

    async def _read(self, client: Client) -> tuple[bytes, bool, bool]:
        """
        Read all that comes.

        :return: it; whether the connection has ended; and whether by a reset.
        """
        got: list[bytes] = []
        quiet = 0
        limit = monotonic() + PATIENCE_SECONDS
        settled = monotonic() + SETTLING_SECONDS
        while client.socket.fileno() >= 0 and quiet < QUIET_TURNS:
            assert monotonic() < limit, "it does not come to rest"
            try:
                data = client.socket.recv(1 << 20)
            except BlockingIOError:
                # Each side's kernel may take its time with what is small (Nagle's algorithm).
                waits = self._waiting or monotonic() > settled
                quiet = quiet + 1 if self._still and waits else 0
                # What a thread has put comes with a tick.
                slow = not waits or (self.wsgi and (quiet > 4 or not quiet))
                await asyncio.sleep(0.0005 if slow else 0)
            except ConnectionError:
                return b"".join(got), True, True
            else:
                if not data:
                    return b"".join(got), True, False
                quiet = 0
                settled = monotonic() + (0 if data.endswith(b"sane") else SETTLING_SECONDS)
                got.append(data)
        return b"".join(got), False, False

    def _judge(self, got: bytes, ended: bool, broken: bool) -> None:
        answers = judge(self.asked, got, ended)
        logged = _errors.count > self.errors
        for each, seen in zip(self.asked, answers, strict=False):
            if seen.status == 101:
                return
            if each is _SANE and seen.whole:
                assert (seen.status, seen.body) == (200, b"sane"), "the next one is not served"
            if seen.status == 500 or (ended and not seen.whole and each.whole):
                assert logged, "the log does not tell of it"
            if not seen.whole:
                if each.whole:
                    assert ended or self._waiting, "nobody answers"
                    # What was cut off before may have looked whole, as to a HEAD; and a reset
                    # takes along what was not sent.
                    spared = each is not self.asked[0] or b"HTTP/1.0" in each.message
                    assert not ended or seen.status or spared, "an empty reply"
                return
            if seen.by_end and not self.wsgi:
                assert broken or not self.script.failed, "what is cut off looks whole"
            if seen.last:
                assert ended or not each.whole, "it says that it ends, and does not"
                return

    @property
    def _waiting(self) -> bool:
        """
        Whether the application has something that it has not ended.
        """
        apart = any(not task.done() for task in getattr(self.script, "apart", ()))
        return bool(self.script.running or self.script.hanging or apart)

    async def _be_served(self) -> None:
        """
        Come anew.
        """
        client = self.visitors.visit(self.host)
        response = await asyncio.wait_for(client.ask("/sane"), PATIENCE_SECONDS)
        assert (response.status, response.body) == (200, b"sane")
        client.close()

    async def _finish(self) -> None:
        """
        See that nothing is left.
        """
        self.script.release.set()
        if not self.wsgi and (
            self.end == 3 or sum(len(each.message) for each in self.asked) > READ_AHEAD_BYTES
        ):
            # Or it is not read any more.
            self.host.abort()
        await self._until(lambda: not self.host.connections, "a connection is left")
        for task in getattr(self.script, "apart", ()):
            task.cancel()
        await self._until(
            lambda: not self.script.running and not self.script.hanging, "a call is left"
        )
        await asyncio.wait_for(fired(self.host.drain()), PATIENCE_SECONDS)
        await asyncio.wait_for(fired(self.host.stop()), PATIENCE_SECONDS)
        await self._until(lambda: threading.active_count() <= self.threads, "a thread is left")
        if self.wsgi:
            backend = self.host._backend
            assert not backend.spills.count, "a file is left"
            assert not backend.files.count, "a file is left"
            assert not backend.spills.memory_bytes, "memory is left"
            assert not backend.websockets.open, "a WebSocket is left"
        await self._until(
            lambda: not self.world.timers, lambda: f"a timer is left: {self.world.timers}"
        )
        assert self.log.getvalue().count("/sane") >= 1, "the access log does not tell"

    async def _until(self, condition: Any, otherwise: Any) -> None:
        limit = monotonic() + PATIENCE_SECONDS
        while not condition():
            text = otherwise if isinstance(otherwise, str) else otherwise()
            assert monotonic() < limit, text
            await asyncio.sleep(0.0002)


@contextlib.contextmanager
def observed() -> Iterator[None]:
    """
    Count what is logged.
    """
    globalLogPublisher.addObserver(_observe)
    for each in _loggers:
        each.addHandler(_errors)
        each.propagate = False  # it is much
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(_observe)
        for each in _loggers:
            each.removeHandler(_errors)
            each.propagate = True


def check(data: bytes) -> None:
    """
    Check that an application can do what it likes.

    :param data: what it does, behind a byte that the other targets have.
    """
    with observed():
        run = Run(data[1:])
        try:
            run.world.loop.run_until_complete(run.go())
        except BaseException as problem:
            problem.args = (f"{problem}: {run.asked!r} end {run.end} {run.script!r}",)
            raise
        finally:
            run.visitors.close()
        assert not run.world.problems, run.world.problems
