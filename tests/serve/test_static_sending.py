"""
Static files on their way: the kernel copies them where it can.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import ssl
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.net.readiness import readiness_of
from stickyd.serve.http.context import HTTPContext
from stickyd.serve.http.limits import HTTPLimits
from stickyd.serve.resource import ResourceHost
from stickyd.serve.tls.server import ServerTls
from tests.hosting import Client, Visitors, a_reactor, end_abruptly, fired, run, until
from tests.http_wire import Wire
from tests.tls_harness import write_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

#: More than the kernel takes for a client that does not read.
SIZE = 12 << 20
CONTENT = bytes(range(256)) * (SIZE // 256)


def static_files(folder: Path, stock: bool = False) -> Any:
    """
    Serve a folder.

    :param stock: by twisted.web's own resource.
    """
    with warnings.catch_warnings():
        # twisted.web.static uses what twisted.web has deprecated, when it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        from twisted.web.static import File

        from stickyd.serve.static.files import StaticFiles
    return File(str(folder)) if stock else StaticFiles(str(folder))


class Scene:
    """
    A host that serves a folder.
    """

    def __init__(self, reactor: Any, root: Any, tls: str, limits: dict[str, Any]) -> None:
        self._visitors = Visitors()
        self.loop = reactor._asyncioEventloop
        self.host = ResourceHost(
            root,
            readiness_of(reactor),
            HTTPContext(reactor, HTTPLimits(**limits)),
            tls=ServerTls(reactor, [tls]) if tls else None,
        )

    def visit(self) -> Client:
        """
        Connect.
        """
        return self._visitors.visit(self.host)

    def run(self, test: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """
        Run a test's coroutine.
        """
        run(self.loop, test())

    def close(self) -> None:
        """
        Close all.
        """
        self._visitors.close()
        run(self.loop, end_abruptly(self.host))


@contextmanager
def serving(
    folder: Path, kind: str = "uvloop", tls: str = "", stock: bool = False, **limits: float
) -> Iterator[Scene]:
    """
    Serve a folder.
    """
    with a_reactor(kind) as reactor:
        scene = Scene(reactor, static_files(folder, stock), tls, limits)
        try:
            yield scene
        finally:
            scene.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """
    A folder with a large file, a small one, and an empty one.
    """
    (tmp_path / "large").write_bytes(CONTENT)
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path


def opened(path: Path) -> int:
    """
    Count the descriptors that we have of a file.
    """
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.path.samefile(f"/proc/self/fd/{name}", path)
        except OSError:
            continue
    return count


@pytest.mark.parametrize("kind", ["uvloop", "asyncio"])
def test_the_kernel_copies_files_and_ranges(folder: Path, copied: list[int], kind: str) -> None:
    """
    Whole or a part, over plain HTTP/1.1; the next request on the connection is answered.
    """
    with serving(folder, kind) as scene:

        async def go() -> None:
            client = scene.visit()
            whole = await client.ask("/large")
            assert (whole.status, whole.body == CONTENT) == (200, True)
            assert sum(copied) == SIZE
            copied.clear()
            part = await client.ask("/large", "Range: bytes=100001-5000000")
            assert (part.status, part.body == CONTENT[100001:5000001]) == (206, True)
            assert sum(copied) == 4900000
            copied.clear()
            last = await client.ask("/large", "Range: bytes=-70000")
            assert last.body == CONTENT[-70000:]
            assert sum(copied) == 70000
            copied.clear()
            several = await client.ask("/large", "Range: bytes=0-99999, 200000-299999")
            assert CONTENT[:100000] in several.body
            assert CONTENT[200000:300000] in several.body
            assert (await client.ask("/small")).body == b"small"
            assert (await client.ask("/empty")).body == b""
            assert not copied
            assert not opened(folder / "large")

        scene.run(go)


@pytest.mark.parametrize("path", ["/large", "/empty"])
def test_head_has_the_length_and_no_body(folder: Path, copied: list[int], path: str) -> None:
    """
    What comes next on the connection is the next response.
    """
    with serving(folder) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(f"HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n")
            size = SIZE if path == "/large" else 0
            assert f"content-length: {size}\r\n".encode() in (await client.head()).lower()
            assert (await client.ask("/small")).body == b"small"
            assert not copied
            assert not opened(folder / "large")

        scene.run(go)


def test_clients_that_read_late(folder: Path, copied: list[int]) -> None:
    """
    They get all of it, with what they have asked for behind it; meanwhile only descriptors
    wait for them, and others are served.
    """
    with serving(folder) as scene:

        async def go() -> None:
            late = [scene.visit() for _ in range(5)]
            for client in late:
                await client.request("/large")
                await client.request("/small")
                await client.head()
            assert (await scene.visit().ask("/small")).body == b"small"
            assert sum(copied) < 5 * SIZE
            assert opened(folder / "large") == 5
            for client in late:
                assert await client.taken(SIZE) == CONTENT
                assert (await client.response()).body == b"small"
            assert not opened(folder / "large")

        scene.run(go)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_host_that_ends_sends_the_rest(folder: Path, version: str) -> None:
    """
    A drained host closes the connection behind the file, not within it; as it does after
    any response that is the last.
    """
    with serving(folder) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.send(f"GET /large HTTP/{version}\r\nHost: a\r\n\r\n")
            await client.head()
            drained = scene.host.drain()
            assert await client.rest() == CONTENT
            await fired(drained)

        scene.run(go)


def test_a_client_that_stalls_is_cut_off(folder: Path) -> None:
    """
    It takes nothing for as long as the limit says: connection and file are closed.
    """
    with serving(folder, stall=0.2) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.request("/large")
            await until(lambda: opened(folder / "large"))
            await until(lambda: not opened(folder / "large"))
            assert len(await client.rest()) < SIZE

        scene.run(go)


def test_a_client_that_leaves(folder: Path) -> None:
    """
    Its file is closed.
    """
    with serving(folder) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.request("/large")
            await client.head()
            assert opened(folder / "large")
            client.close()
            await until(lambda: not opened(folder / "large"))

        scene.run(go)


def test_a_file_that_becomes_shorter_ends_the_connection(folder: Path) -> None:
    """
    The client gets what was there, nothing else, and sees that it is not all.
    """
    with serving(folder) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.request("/large")
            assert f"Content-Length: {SIZE}\r\n".encode() in await client.head()
            # Near the end: of what the kernel has taken it may send zeros from here on.
            os.truncate(folder / "large", SIZE - 1000)
            got = await client.rest()
            assert got == CONTENT[: SIZE - 1000]
            assert not opened(folder / "large")

        scene.run(go)


def test_a_file_that_the_kernel_cannot_copy_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Some file systems refuse; their files come nevertheless.
    """

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "refused")

    monkeypatch.setattr(os, "sendfile", refuse)
    with serving(folder) as scene:

        async def go() -> None:
            client = scene.visit()
            assert (await client.ask("/large")).body == CONTENT
            assert (await client.ask("/large", "Range: bytes=1-9999999")).body == CONTENT[
                1:10000000
            ]

        scene.run(go)


def test_tls_is_read_and_written(folder: Path, copied: list[int]) -> None:
    """
    The kernel knows nothing of our TLS.
    """
    with serving(folder, tls=write_certificate(folder, "a", "a.test")) as scene:

        async def go() -> None:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            client = scene.visit()
            reader, writer = await asyncio.open_connection(
                sock=client.socket.dup(), ssl=context, server_hostname="a.test"
            )
            writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(SIZE) == CONTENT
            writer.transport.abort()
            assert not copied

        scene.run(go)


def test_transports_that_take_no_files(folder: Path, copied: list[int]) -> None:
    """
    Where there is none of our own below, as with TLS, the file is read and written.
    """
    wire = Wire(static_files(folder))
    wire.feed(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    wire.clock.pump([0] * 1000)
    assert wire.output().endswith(CONTENT)
    assert not copied


def test_files_of_twisted_are_copied_too(folder: Path, copied: list[int]) -> None:
    """
    ``twisted.web.static.File`` below ``--resource``: whole files, and single ranges of them.
    """
    with serving(folder, stock=True) as scene:

        async def go() -> None:
            client = scene.visit()
            assert (await client.ask("/large")).body == CONTENT
            assert sum(copied) == SIZE
            copied.clear()
            part = await client.ask("/large", "Range: bytes=100001-5000000")
            assert (part.status, part.body == CONTENT[100001:5000001]) == (206, True)
            assert sum(copied) == 4900000
            copied.clear()
            several = await client.ask("/large", "Range: bytes=0-99999, 200000-299999")
            assert CONTENT[200000:300000] in several.body
            assert not copied
            assert (await client.ask("/small")).body == b"small"
            assert (await client.ask("/empty")).body == b""
            assert not opened(folder / "large")
            assert not opened(folder / "small")

        scene.run(go)


def test_a_file_of_twisted_that_becomes_shorter_ends_the_connection(folder: Path) -> None:
    """
    The client sees that it is not all.
    """
    with serving(folder, stock=True) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.request("/large")
            await client.head()
            os.truncate(folder / "large", SIZE - 1000)
            assert await client.rest() == CONTENT[: SIZE - 1000]
            assert not opened(folder / "large")

        scene.run(go)


def test_files_of_twisted_over_transports_that_take_none(folder: Path, copied: list[int]) -> None:
    """
    They are read and written, in ranges too.
    """
    for field, body in (("", CONTENT), ("Range: bytes=5-100004\r\n", CONTENT[5:100005])):
        wire = Wire(static_files(folder, stock=True))
        wire.feed(f"GET /large HTTP/1.1\r\nHost: a\r\n{field}\r\n".encode())
        wire.clock.pump([0] * 1000)
        assert wire.output().endswith(b"\r\n\r\n" + body)
    assert not copied
    assert not opened(folder / "large")


def test_what_is_no_file_of_twisted_is_left_alone(folder: Path) -> None:
    """
    Producers of others, and files that are none of the system's, are registered as they come.
    """
    from twisted.web.static import NoRangeStaticProducer

    from stickyd.serve.static.stock_files import file_body

    class Own(NoRangeStaticProducer):
        pass

    with (folder / "small").open("rb") as file:
        assert file_body(None, object()) is None
        assert file_body(None, Own(None, file)) is None
        assert file_body(None, NoRangeStaticProducer(None, io.BytesIO(b"a"))) is None
    with open(os.devnull, "rb") as device:
        assert file_body(None, NoRangeStaticProducer(None, device)) is None
