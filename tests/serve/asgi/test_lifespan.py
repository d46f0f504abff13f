"""
The lifespan of ASGI applications: what starts, what refuses, what is only logged.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.errors import ApplicationError
from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from tests.hosting import Visitors, a_loop, fired, logged, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """
    A loop of the test's own.
    """
    with a_loop() as loop:
        yield loop


def host_of(application: Any, loop: asyncio.AbstractEventLoop, mode: str = "auto") -> AsgiHost:
    """
    A host for the application, which answers requests with its state.
    """

    async def both(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await application(scope, receive, send)
            return
        body = str(scope["state"]).encode()
        scope["state"]["mine"] = True
        fields = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    return AsgiHost(both, loop, "--asgi a:b", AsgiOptions(lifespan=mode))


def start_and_stop(host: AsgiHost, loop: asyncio.AbstractEventLoop) -> bytes:
    """
    Start, ask twice, stop.

    :return: the second answer.
    """
    visitors = Visitors()

    async def go() -> bytes:
        await fired(host.start())
        client = visitors.visit(host)
        await client.ask()
        body = (await client.ask()).body
        await fired(host.drain())
        await fired(host.stop())
        return body

    try:
        answer: bytes = run(loop, go())
    finally:
        visitors.close()
    return answer


def refusal(host: AsgiHost, loop: asyncio.AbstractEventLoop) -> str:
    """
    Start, which fails.

    :return: the error's message.
    """

    async def go() -> str:
        with pytest.raises(ApplicationError) as refused:
            await fired(host.start())
        await fired(host.stop())
        return str(refused.value)

    said: str = run(loop, go())
    return said


def test_starts_before_the_first_request_and_ends_after_the_last(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """
    The application starts, its state is copied for each request, and it shuts down.
    """
    happened = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        happened.append((await receive())["type"])
        scope["state"]["number"] = 7
        await send({"type": "lifespan.startup.complete"})
        happened.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})
        happened.append("end")

    assert start_and_stop(host_of(application, loop), loop) == b"{'number': 7}"
    run(loop, until(lambda: happened == ["lifespan.startup", "lifespan.shutdown", "end"]))


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_refusal_carries_the_reason(loop: asyncio.AbstractEventLoop, mode: str) -> None:
    """
    An application that says that it failed keeps the worker from serving, in its words:
    the last line of them, and all of them in the log.
    """

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "Traceback\n  no database\n"})
        raise RuntimeError("no database")

    with logged() as events:
        said = refusal(host_of(application, loop, mode), loop)
    assert said == "--asgi a:b: its startup failed: no database"
    assert ["Traceback" in str(event.get("why")) for event in events] == [True]


def test_refusal_without_a_reason(loop: asyncio.AbstractEventLoop) -> None:
    """
    An application that does not say why it failed is told of all the same.
    """

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed"})

    said = refusal(host_of(application, loop), loop)
    assert said == "--asgi a:b: its startup failed: it gave no reason"


def test_application_without_lifespan_is_served(loop: asyncio.AbstractEventLoop) -> None:
    """
    One that raises before it takes an event is served, and the log says so, not loudly.
    """

    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("only http, please")

    with logged() as events:
        assert start_and_stop(host_of(application, loop), loop) == b"{}"
    (event,) = events
    assert event["log_level"].name == "info"
    assert "only http, please" in event["said"]


def test_application_that_raises_while_starting_is_served_loudly(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """
    One that takes the event and then raises is served too, as ASGI demands; but the log
    has its traceback.
    """

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("no database")

    with logged() as events:
        assert start_and_stop(host_of(application, loop), loop) == b"{}"
    (event,) = events
    assert event["log_failure"].getErrorMessage() == "no database"


@pytest.mark.parametrize(
    ("mode", "error"), [("on", ValueError("no database")), ("auto", SystemExit("no database"))]
)
def test_raising_is_a_refusal(
    loop: asyncio.AbstractEventLoop, mode: str, error: BaseException
) -> None:
    """
    With lifespan on an exception is a refusal; sys.exit() is one always.
    """

    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise error

    with logged():
        said = refusal(host_of(application, loop, mode), loop)
    assert said == f"--asgi a:b: its startup failed: {type(error).__name__}: no database"


def test_off_is_never_asked(loop: asyncio.AbstractEventLoop) -> None:
    """
    With lifespan off the application is not called for it.
    """
    called = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope)

    assert start_and_stop(host_of(application, loop, "off"), loop) == b"{}"
    assert not called


def test_application_that_returns_at_once_is_served(loop: asyncio.AbstractEventLoop) -> None:
    """
    One that returns without a word has no lifespan, and no shutdown to wait for.
    """

    async def application(scope: Any, receive: Any, send: Any) -> None:
        return

    assert start_and_stop(host_of(application, loop), loop) == b"{}"


@pytest.mark.parametrize("raises", [True, False])
def test_failed_shutdown_is_logged(loop: asyncio.AbstractEventLoop, raises: bool) -> None:
    """
    A shutdown that fails, either way, is in the log, and the worker stops all the same.
    """

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if raises:
            raise ValueError("cannot let go")
        await send({"type": "lifespan.shutdown.failed", "message": "cannot let go"})

    with logged() as events:
        start_and_stop(host_of(application, loop), loop)
    (event,) = events
    failure = event.get("log_failure")
    assert (failure.getErrorMessage() if failure else event["why"]) == "cannot let go"


def test_error_while_serving_is_logged(loop: asyncio.AbstractEventLoop) -> None:
    """
    A lifespan that breaks while requests are served is in the log; requests go on.
    """

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise ValueError("lost the database")

    with logged() as events:
        assert start_and_stop(host_of(application, loop), loop) == b"{}"
    (event,) = events
    assert event["log_failure"].getErrorMessage() == "lost the database"


def test_nonsense_is_the_applications_error(loop: asyncio.AbstractEventLoop) -> None:
    """
    A message that means nothing in its place raises in the application.
    """
    raised = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for kind in ("lifespan.shutdown.complete", "http.response.start"):
            try:
                await send({"type": kind})
            except RuntimeError as error:
                raised.append(str(error))

    start_and_stop(host_of(application, loop), loop)
    assert [text.split("'")[1] for text in raised] == [
        "lifespan.shutdown.complete",
        "http.response.start",
    ]
