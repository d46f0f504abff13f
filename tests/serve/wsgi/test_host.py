"""
WSGI applications in threads of their own.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.logger import formatEvent
from zope.interface.verify import verifyObject

from stickyd.interfaces import IHost
from stickyd.net.readiness import readiness_of
from stickyd.serve.http.context import HTTPContext
from stickyd.serve.wsgi.host import WsgiHost
from stickyd.serve.wsgi.options import WsgiOptions
from tests.hosting import LOOPS, Client, Visitors, a_reactor, fired, logged, run, until
from tests.serve.wsgi.scene import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Application:
    """
    Answers as the path says, and writes down what it is given.

    :ivar gate: what ``/held`` waits for, in its thread.
    """

    def __init__(self) -> None:
        self.environs: list[Mapping[str, Any]] = []
        self.gate = threading.Event()
        self.arrived: list[str] = []
        self.left: list[str] = []

    def __call__(
        self, environ: Mapping[str, Any], start_response: Callable[..., Any]
    ) -> list[bytes]:
        self.environs.append(environ)
        path = environ["PATH_INFO"]
        if path.startswith("/late"):
            self.arrived.append(path)
            self.gate.wait()
        body = b"%d" % len(environ["wsgi.input"].read())
        if path.startswith("/late"):
            self.left.append(body.decode())
        if path in ("/boom", "/late/boom"):
            raise ValueError("boom")
        if path == "/held":
            self.arrived.append(path)
            self.gate.wait()
            self.left.append(path)
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


class Scene:
    """
    An application in its host, started.
    """

    def __init__(self, reactor: Any, visitors: Visitors) -> None:
        self.loop = reactor._asyncioEventloop
        self.application = Application()
        self.host = WsgiHost(
            self.application,
            reactor,
            readiness_of(reactor),
            WsgiOptions(2, root_path="/shop"),
            HTTPContext(reactor),
        )
        self.visitors = visitors
        self.stopped = False
        run(self.loop, fired(self.host.start()))

    def visit(self) -> Client:
        return self.visitors.visit(self.host)

    def end(self) -> None:
        """
        Let everybody go, and stop.
        """
        self.application.gate.set()

        async def finish() -> None:
            await fired(self.host.drain())
            await fired(self.host.stop())

        if not self.stopped:
            run(self.loop, finish())


@pytest.fixture(params=LOOPS)
def scene(request: Any) -> Iterator[Scene]:
    """
    The application in its host, on each kind of loop.
    """
    visitors = Visitors()
    with a_reactor(request.param) as reactor:
        scene = Scene(reactor, visitors)
        yield scene
        visitors.close()
        scene.end()


def test_is_a_host(scene: Scene) -> None:
    """
    It has all that a host must have.
    """
    assert verifyObject(IHost, scene.host)


def test_answers(scene: Scene) -> None:
    """
    Requests are answered, bodies arrive, and the environment tells who and where.
    """

    async def go() -> None:
        client = scene.visit()
        assert (await client.ask("/a%20b?c=d")).body == b"0"
        await client.send("POST / HTTP/1.1\r\nHost: x:81\r\nContent-Length: 300000\r\n\r\n")
        await client.send(bytes(300000))
        assert (await client.response()).body == b"300000"
        first = scene.application.environs[0]
        assert (first["REMOTE_ADDR"], first["REMOTE_PORT"]) == (
            client.name[0],
            str(client.name[1]),
        )
        assert (first["SCRIPT_NAME"], first["PATH_INFO"]) == ("/shop", "/a b")
        assert first["QUERY_STRING"] == "c=d"
        assert first["wsgi.multiprocess"]
        assert first["wsgi.multithread"]

    run(scene.loop, go())


def test_serves_unix_sockets(scene: Scene) -> None:
    """
    A client without an address gets an empty one; the server's name is never empty.
    """

    async def go() -> None:
        handoff = scene.visit().handoff
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        scene.host.adopt(theirs, UNIXAddress(None), handoff)
        client = Client(ours, handoff)
        try:
            for head in ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"):
                await client.send(head)
                assert (await client.response()).status == 200
                environ = scene.application.environs[-1]
                assert environ["REMOTE_ADDR"] == ""
                assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")
        finally:
            ours.close()

    run(scene.loop, go())


def test_exception_is_a_500_and_a_log_line(scene: Scene) -> None:
    """
    An application that raises gives 500 and its traceback in the log; others are served.
    """

    async def go() -> None:
        assert (await scene.visit().ask("/boom")).status == 500
        assert (await scene.visit().ask()).status == 200

    with logged() as events:
        run(scene.loop, go())
    failures = [event["log_failure"] for event in events if "log_failure" in event]
    assert [failure.getErrorMessage() for failure in failures] == ["boom"]


@pytest.mark.parametrize("size", [10, 300_000])
def test_client_who_leaves_takes_nothing_along(scene: Scene, size: int) -> None:
    """
    An application can read the body of a client who has left, and the log has nothing of it
    but what the application itself raises.
    """

    async def go() -> None:
        for path in ("/late", "/late/boom"):
            client = scene.visit()
            await client.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n")
            await client.send(bytes(size))
            await until(lambda path=path: path in scene.application.arrived)  # type: ignore[misc]  # no type for a default
            client.close()
        await until(lambda: not scene.host.connections)
        scene.application.gate.set()
        await until(lambda: len(scene.application.left) == 2)
        await fired(scene.host.stop())
        scene.stopped = True

    with logged() as events:
        run(scene.loop, go())
    assert scene.application.left == [str(size)] * 2
    failures = [event["log_failure"] for event in events if "log_failure" in event]
    assert [failure.getErrorMessage() for failure in failures] == ["boom"]
    assert scene.host._backend.spills.count == 0


def test_threads_are_as_many_as_allowed(scene: Scene) -> None:
    """
    Of three requests two are handled at a time, and the loop is free all the while.
    """

    async def go() -> None:
        clients = [scene.visit() for _ in range(3)]
        for client in clients:
            await client.request("/held")
        await until(lambda: len(scene.application.arrived) == 2)
        await until(lambda: scene.host.requests == 3)
        assert len(scene.application.arrived) == 2
        scene.application.gate.set()
        for client in clients:
            assert (await client.response()).status == 200

    run(scene.loop, go())


def test_a_hundred_polls_leave_room_for_others() -> None:
    """
    With default options: they may all come from behind one address, and be one worker's.
    """
    gate = threading.Event()
    polling: list[int] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/poll":
            polling.append(1)
            gate.wait()
        start_response("200 OK", [])
        return [b"here"]

    with serving(application) as scene:

        async def go() -> None:
            clients = [scene.visit() for _ in range(100)]
            for client in clients:
                await client.request("/poll")
            await until(lambda: len(polling) == len(clients))
            assert (await scene.visit().ask()).body == b"here"
            gate.set()
            for client in clients:
                assert (await client.response()).body == b"here"

        scene.run(go)


def test_stop_waits_for_threads(scene: Scene) -> None:
    """
    What an application does for a client who has left is finished before the stop is.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/held")
        await until(lambda: scene.application.arrived)
        client.close()
        await until(lambda: scene.host.connections == 0)
        drained = scene.host.drain().addCallback(lambda _: scene.application.left.append("drained"))
        assert not scene.application.left
        scene.application.gate.set()
        await fired(drained)
        assert scene.application.left == ["/held", "drained"]
        await fired(scene.host.stop())
        scene.stopped = True

    run(scene.loop, go())


def test_abort_ends_the_wait_for_threads(scene: Scene) -> None:
    """
    A stop whose time is over while it waits for one ends in good order; the log names what is
    not waited for.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/held")
        await until(lambda: scene.application.arrived)
        client.close()
        await until(lambda: scene.host.connections == 0)
        drained = scene.host.drain()
        with logged() as events:
            scene.host.abort()
            await fired(drained)
        (line,) = [formatEvent(event) for event in events]
        assert line.startswith("Not waited for, as the clients have left: GET /held (1, for ")
        await fired(scene.host.stop())
        assert not scene.application.left
        scene.application.gate.set()
        scene.stopped = True

    run(scene.loop, go())


@pytest.mark.parametrize("ended", [False, True], ids=["client left", "ended"])
def test_event_streams_keep_no_stop(ended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Those that wait for something to send, when their clients have left or were told that the
    server goes; the thread of another request is waited for.
    """
    monkeypatch.setattr("stickyd.serve.wsgi.host.LOOK_SECONDS", 0.01)
    gate, never = threading.Event(), threading.Event()
    begun: list[str] = []

    def application(environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        begun.append(path)
        if path == "/page":
            gate.wait()
            begun.append("done")
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        yield b"data: hello\n\n"
        never.wait()

    with serving(application) as scene:

        async def go() -> None:
            page, stream = scene.visit(), scene.visit()
            await page.request("/page")
            await stream.request("/stream")
            await stream.head()
            await until(lambda: len(begun) == 2)
            page.close()
            if not ended:
                stream.close()
            drained = scene.host.drain().addCallback(lambda _: begun.append("drained"))
            if ended:
                scene.host.end_streams()
            await until(lambda: scene.host.connections == 0)
            await asyncio.sleep(0.05)
            gate.set()
            await fired(drained)
            assert begun[-2:] == ["done", "drained"]
            never.set()

        scene.run(go)


def test_abort_waits_for_no_thread(scene: Scene) -> None:
    """
    After an abort the stop does not wait for an application that does not return.
    """

    async def go() -> None:
        client = scene.visit()
        await client.request("/held")
        await until(lambda: scene.application.arrived)
        scene.host.abort()
        await fired(scene.host.drain())
        await fired(scene.host.stop())
        assert not scene.application.left
        scene.stopped = True
        assert all(
            thread.daemon for thread in threading.enumerate() if thread.name.startswith("wsgi")
        )

    run(scene.loop, go())
