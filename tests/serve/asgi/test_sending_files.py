"""
Files that ASGI applications name instead of sending them: the kernel copies them.
"""

from __future__ import annotations

import asyncio
import io
import os
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from twisted.internet.task import Clock

from stickyd.serve.access_log import AccessLog
from stickyd.serve.asgi.config import AsgiOptions
from stickyd.serve.asgi.host import AsgiHost
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.tls.server import ServerTls
from tests.hosting import (
    LOOPS,
    Client,
    Visitors,
    a_loop,
    end_abruptly,
    fired,
    run,
    some_turns,
    until,
)
from tests.tls_harness import write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

#: More than the kernel takes for a client that does not read.
SIZE = 12 << 20
CONTENT = bytes(range(256)) * (SIZE // 256)
PATHSEND = "http.response.pathsend"


class Scene:
    """
    An application that names files, in its host.

    :ivar errors: what its calls of ``send`` have raised.
    """

    def __init__(self, loop: Any, folder: Path, application: Any = None, **how: Any) -> None:
        self.folder = folder
        self.errors: list[str] = []
        self.log = io.StringIO()
        self.visitors = Visitors()
        limits = HTTPLimits(stall=how.pop("stall", 30.0))
        tls = how.pop("tls", None)
        self.access_log = AccessLog(self.log, Clock())
        options = AsgiOptions(lifespan="off", limits=limits)
        self.host = AsgiHost(
            application or self.named, loop, "--asgi app", options, tls, self.access_log
        )
        run(loop, fired(self.host.start()))

    async def named(self, scope: Any, receive: Any, send: Any) -> None:
        """
        Send the file of the path; the query is the length that is told, if any.
        """
        assert scope["extensions"] == {PATHSEND: {}}
        length = scope["query_string"]
        fields = [(b"content-length", length)] if length else []
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        path = str(self.folder / scope["path"].strip("/"))
        try:
            await send({"type": PATHSEND, "path": path})
        except Exception as problem:
            self.errors.append(f"{type(problem).__name__}: {problem}")
            raise

    def visit(self) -> Client:
        """
        Connect.
        """
        return self.visitors.visit(self.host)


@contextmanager
def serving(
    folder: Path, application: Any = None, kind: str = "uvloop", **how: Any
) -> Iterator[Callable[[Any], None]]:
    """
    Serve; what comes runs a coroutine function with the scene.
    """
    with a_loop(kind) as loop:
        scene = Scene(loop, folder, application, **how)

        def go(test: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
            run(loop, test(scene))

        yield go
        scene.visitors.close()
        run(loop, end_abruptly(scene.host))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """
    A folder with a large file, a small one, an empty one, and what is none.
    """
    (tmp_path / "large").write_bytes(CONTENT)
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


def opened(path: Path) -> int:
    """
    How often we have a file open.
    """
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}") == str(path)
        except FileNotFoundError:  # the one of listdir
            continue
    return found


@pytest.mark.parametrize("kind", LOOPS)
def test_files_are_copied_by_the_kernel(folder: Path, copied: list[int], kind: str) -> None:
    """
    With a length, and one after the other on one connection; an empty one needs no copying.
    """
    with serving(folder, kind=kind) as go:

        @go
        async def _(scene: Scene) -> None:
            client = scene.visit()
            assert (await client.ask("/small?5")).body == b"small"
            assert (await client.ask(f"/large?{SIZE}")).body == CONTENT
            assert (await client.ask("/empty?0")).body == b""
            assert (await client.ask("/small?5")).body == b"small"
            assert sum(copied) == SIZE + 10
            assert not opened(folder / "large") + opened(folder / "small")
            assert not scene.errors


def test_files_of_which_no_length_was_told(folder: Path, copied: list[int]) -> None:
    """
    HTTP/1.1 gets one chunk, and none for an empty file; HTTP/1.0 everything to the end.
    """
    with serving(folder) as go:

        @go
        async def _(scene: Scene) -> None:
            client = scene.visit()
            for path, body in (
                ("/small", b"5\r\nsmall\r\n0\r\n\r\n"),
                ("/empty", b"0\r\n\r\n"),
                ("/large", b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, CONTENT)),
            ):
                await client.request(path)
                assert b"transfer-encoding: chunked" in await client.head()
                assert await client.taken(len(body)) == body
            await client.send("GET /large HTTP/1.0\r\n\r\n")
            await client.head()
            assert await client.rest() == CONTENT
            assert sum(copied) == 2 * SIZE + 5


def test_head_and_pipelined_requests(folder: Path, copied: list[int]) -> None:
    """
    HEAD has no body, and what was asked behind a file comes behind it.
    """
    with serving(folder) as go:

        @go
        async def _(scene: Scene) -> None:
            client = scene.visit()
            await client.send(
                f"HEAD /large?{SIZE} HTTP/1.1\r\nHost: a\r\n\r\n"
                f"GET /large?{SIZE} HTTP/1.1\r\nHost: a\r\n\r\n"
                "GET /small?5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            assert b"content-length: %d" % SIZE in await client.head()
            assert (await client.response()).body == CONTENT
            assert (await client.response()).body == b"small"
            assert await client.rest() == b""
            assert sum(copied) == SIZE + 5


def test_a_file_that_has_another_length_than_was_told(folder: Path) -> None:
    """
    Of one that has grown comes what was told; one that is shorter is not begun.
    """
    with serving(folder) as go:

        @go
        async def _(scene: Scene) -> None:
            client = scene.visit()
            assert (await client.ask("/small?3")).body == b"sma"
            await client.request("/small?6")
            await client.head()
            assert await client.rest() == b""
            assert scene.errors == ["RuntimeError: Response content shorter than Content-Length"]


@pytest.mark.parametrize("name", ["fifo", "nothing", "."])
def test_what_is_no_file_ends_the_response(folder: Path, name: str) -> None:
    """
    The application is told, and the client does not take it for an empty file.
    """
    with serving(folder) as go:

        @go
        async def _(scene: Scene) -> None:
            client = scene.visit()
            await client.request(f"/{name}?5")
            await client.head()
            assert await client.rest() == b""
            assert len(scene.errors) == 1
            assert "Error: " in scene.errors[0]
            assert (await scene.visit().ask("/small?5")).body == b"small"


def test_a_client_that_leaves_or_stalls(folder: Path) -> None:
    """
    The file is closed.
    """
    with serving(folder, stall=0.2) as go:

        @go
        async def _(scene: Scene) -> None:
            for stalls in (False, True):
                client = scene.visit()
                await client.request(f"/large?{SIZE}")
                await client.head()
                if not stalls:
                    client.close()
                await until(lambda: not opened(folder / "large"))
                assert stalls is False or len(await client.rest()) < SIZE


def test_the_log_has_what_was_sent(folder: Path) -> None:
    """
    A line has the size of the file.
    """
    with serving(folder) as go:

        @go
        async def _(scene: Scene) -> None:
            client = scene.visit()
            await client.ask("/small?5")
            # The application's call ends in a turn after the one that wrote the response.
            await some_turns()
            scene.access_log.flush()
            assert '"GET /small?5 HTTP/1.1" 200 5 ' in scene.log.getvalue()


def test_files_of_starlette(folder: Path, copied: list[int]) -> None:
    """
    Its ``StaticFiles`` name their files, also behind a middleware; a range it reads itself.
    """
    (folder / "a.css").write_bytes(b"a" * 100_000)
    with serving(folder, GZipMiddleware(StaticFiles(directory=folder))) as go:

        @go
        async def _(scene: Scene) -> None:
            client = scene.visit()
            got = await client.ask("/a.css", "Accept-Encoding: gzip")
            assert got.status == 200
            assert got.body == b"a" * 100_000
            assert sum(copied) == 100_000
            got = await client.ask("/small", "Range: bytes=1-2")
            assert (got.status, got.body) == (206, b"ma")
            etag = got.fields["etag"]
            assert (await client.ask("/small", f"If-None-Match: {etag}")).status == 304
            assert sum(copied) == 100_000


def test_tls_takes_no_files(folder: Path, copied: list[int]) -> None:
    """
    On TLS the extension is not there, and Starlette reads.
    """
    tls = ServerTls(Clock(), [write_certificate(folder, "a", "a.test")], (b"http/1.1",))
    extensions: list[object] = []
    files = StaticFiles(directory=folder)

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        extensions.append(scope.get("extensions"))
        await files(scope, receive, send)

    with serving(folder, noting, tls=tls) as go:

        @go
        async def _(scene: Scene) -> None:
            context = ssl._create_unverified_context()
            reader, writer = await asyncio.open_connection(
                sock=scene.visit().socket.dup(), ssl=context, server_hostname="a.test"
            )
            writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(SIZE) == CONTENT
            writer.transport.abort()
            assert not copied
            assert extensions == [None]
