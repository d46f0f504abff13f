"""
Files that a WSGI application answers with.
"""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import warnings
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files import File as DjangoFile  # type: ignore[import-untyped]
from twisted.internet.task import Clock

from stickyd.serve.access_log import AccessLog
from stickyd.serve.wsgi.file_wrapper import FileWrapper
from tests.hosting import until
from tests.serve.wsgi.answering import Environ, StartResponse, answered
from tests.serve.wsgi.scene import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


@pytest.mark.parametrize("size", [0, 10, 1_000_000])
@pytest.mark.parametrize("kind", ["memory", "file", "no close"])
@pytest.mark.parametrize("offset", [0, 3])
def test_file_wrapper(size: int, kind: str, offset: int) -> None:
    """
    A file is sent from where it stands, and closed.
    """
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    files: list[Any] = []

    class Reader:
        def __init__(self) -> None:
            self._file = io.BytesIO(content)

        def read(self, count: int) -> bytes:
            return self._file.read(count)

        def seek(self, position: int) -> None:
            self._file.seek(position)

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        file: Any = {"memory": io.BytesIO, "no close": Reader}.get(kind, tempfile.TemporaryFile)()
        if kind != "no close":
            file.write(content)
        file.seek(offset)
        files.append(file)
        start_response("200 OK", [("Content-Length", str(max(0, size - offset)))])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file, 4096)
        return wrapped

    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            assert (await client.ask()).body == content[offset:]
            assert (await client.ask()).body == content[offset:]
            if kind != "no close":
                await until(lambda: all(file.closed for file in files))

        scene.run(go)


class Loud(io.FileIO):
    """
    A file that is read as something else.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        return (super().read(size) or b"").upper()


class Louder:
    """
    The same, around another file.
    """

    def __init__(self, file: Any) -> None:
        self.file = file

    def read(self, size: int) -> bytes:
        content: bytes = self.file.read(size).upper()
        return content


@pytest.mark.parametrize(
    ("make", "plain"),
    [
        (lambda path: path.open("rb"), True),
        (lambda path: path.open("rb", buffering=0), True),
        (lambda path: path.open("r+b"), True),
        (lambda path: DjangoFile(path.open("rb")), True),
        (lambda path: Loud(path), False),
        (lambda path: io.BufferedReader(Loud(path)), False),
        (lambda path: Louder(path.open("rb")), False),
        (lambda path: path.open("r"), False),
        (lambda path: io.BytesIO(b"x"), False),
        (lambda path: open("/proc/self/status", "rb"), False),  # noqa: SIM115
    ],
)
def test_only_files_that_are_read_as_they_lie_there_are_opened_anew(
    tmp_path: Path, make: Callable[[Path], Any], plain: bool
) -> None:
    """
    Not what becomes another thing as it is read, nor what is made as it is.
    """
    path = tmp_path / "file"
    path.write_bytes(b"content")
    file = make(path)
    with closing(getattr(file, "file", file)):
        opened = FileWrapper(file).open_plain()
        assert (opened is not None) == plain
        if opened is not None:
            assert os.pread(opened[0], 100, 0) == b"content"
            os.close(opened[0])


def test_files_in_wrappers_of_tempfile_are_plain() -> None:
    """
    Though their functions are wrapped too.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"content")
        opened = FileWrapper(file).open_plain()
        assert opened is not None
        descriptor, offset, count = opened
        os.close(descriptor)
        assert (offset, count) == (7, 0)


def test_what_the_kernel_makes_as_it_is_read_is_sent() -> None:
    """
    A file of /proc has no size.
    """

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        file = open("/proc/version", "rb")  # noqa: SIM115 - the response closes it
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return wrapped

    assert b"Linux version" in answered(application)


def a_file(size: int) -> Any:
    """
    A file with so many bytes.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the response closes it
    file.write(bytes(range(256)) * (size // 256))
    file.seek(0)
    return file


@pytest.mark.parametrize("size", [256, 99_840, 2_999_808])
def test_the_access_log_counts_all_of_a_file(size: int) -> None:
    """
    Also what the kernel has taken at once.
    """

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](a_file(size))
        return wrapped

    log, clock = io.StringIO(), Clock()
    with serving(application) as scene:

        async def go() -> None:
            scene.host.site.access_log = AccessLog(log, clock)
            client = scene.visit()
            assert len((await client.ask()).body) == size
            clock.advance(1)

        scene.run(go)
    assert f'"GET / HTTP/1.1" 200 {size} ' in log.getvalue()


def test_a_file_is_sent_without_a_thread() -> None:
    """
    Many slow clients, one thread; what they do not take costs nothing but a descriptor.
    """
    size = 8 << 20

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/page":
            start_response("200 OK", [])
            return [b"page"]
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](a_file(size))
        return wrapped

    with serving(application, threads=1) as scene:

        async def go() -> None:
            slow = [scene.visit() for _ in range(10)]
            for client in slow:
                await client.request("/file")
                assert b"Content-Length: 8388608\r\n" in await client.head()
            assert scene.host._backend.files.count == 10
            assert scene.host.descriptors == 20
            assert (await scene.visit().ask("/page")).body == b"page"
            for client in slow[:5]:
                assert hash(await client.taken(size)) == hash(bytes(range(256)) * (size // 256))
                assert (await client.ask("/page")).body == b"page"
            for client in slow[5:]:
                client.close()
            await until(lambda: scene.host._backend.files.count == 0)

        scene.run(go)


def test_a_file_of_the_length_that_is_said() -> None:
    """
    A part of it, if that is shorter; and what was compressed is not taken for a file.
    """
    content = bytes(range(256)) * 4000

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        file = a_file(len(content))
        headers = []
        if path == "/part":
            file.seek(100)
            headers.append(("Content-Length", "200000"))
        if path == "/gzip":
            packed = tempfile.TemporaryFile()  # noqa: SIM115 - the same
            with gzip.open(packed, "wb") as packing:
                packing.write(content)
            packed.seek(0)
            file.close()
            file = gzip.open(packed)  # noqa: SIM115 - the same
            headers.append(("Content-Length", str(len(content))))
        start_response("200 OK", headers)
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return wrapped

    with serving(application) as scene, warnings.catch_warnings():
        # The file below the decompressor is closed by the collector only.
        warnings.simplefilter("ignore", ResourceWarning)

        async def go() -> None:
            client = scene.visit()
            assert (await client.ask("/part")).body == content[100:200100]
            assert (await client.ask("/gzip")).body == content
            assert (await client.ask("/")).body == content

        scene.run(go)


def test_a_file_that_gets_shorter_ends_the_connection() -> None:
    """
    The client must not wait for what is no more.
    """
    files: list[Any] = []

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        files.append(a_file(50_000_000))
        start_response("200 OK", [])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](files[0])
        duplicate = os.dup(files[0].fileno())
        files.append(duplicate)
        return wrapped

    with serving(application) as scene:

        async def go() -> None:
            client = scene.visit()
            await client.request()
            await client.head()
            os.ftruncate(files[1], 0)
            os.close(files[1])
            assert len(await client.rest()) < 50_000_000
            await until(lambda: scene.host._backend.files.count == 0)

        scene.run(go)
