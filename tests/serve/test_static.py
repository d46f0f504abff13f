"""
Static files: what is found, and what is not.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.net.readiness import readiness_of
from stickyd.serve.http.context import HTTPContext
from stickyd.serve.resource import ResourceHost
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.settings import Settings
from stickyd.worker.build_host import build_host
from tests.hosting import Response, Visitors, a_reactor, fired, run
from tests.http_wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """
    A directory with files, and with links that lead astray.
    """
    site = tmp_path / "site"
    (site / "folder").mkdir(parents=True)
    (site / "empty").mkdir()
    (site / "index.html").write_text("<p>home")
    (site / "folder" / "index.htm").write_text("<p>folder")
    (site / "data.json").write_text("{}")
    (site / "unknown.xyzzy").write_text("<script>")
    (tmp_path / "site-secret").write_text("secret")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    (site / "away").symlink_to(tmp_path / "site-secret")
    (site / "dir").symlink_to(tmp_path / "secret")
    (site / "folder" / "up").symlink_to(site / "data.json")
    (site / "inside").symlink_to(site / "data.json")
    return site


@pytest.fixture
def ask(site: Path) -> Iterator[Callable[..., Response]]:
    """
    Ask for a path.
    """
    with warnings.catch_warnings():
        # twisted.web.static uses what twisted.web has deprecated, when it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        from stickyd.serve.static.files import StaticFiles
    visitors = Visitors()
    with a_reactor() as reactor:
        host = ResourceHost(StaticFiles(str(site)), readiness_of(reactor), HTTPContext(reactor))
        loop = reactor._asyncioEventloop
        client: Any = visitors.visit(host)
        yield lambda *request: run(loop, client.ask(*request))
        visitors.close()
        run(loop, fired(host.drain()))
        run(loop, fired(host.stop()))


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/", b"<p>home", "text/html"),
        ("/folder/", b"<p>folder", "text/html"),
        ("/data.json", b"{}", "application/json"),
        ("/folder/up", b"{}", "application/octet-stream"),
        ("/inside", b"{}", "application/octet-stream"),
        ("/unknown.xyzzy", b"<script>", "application/octet-stream"),
    ],
)
def test_serves_files(ask: Callable[..., Response], path: str, body: bytes, kind: str) -> None:
    """
    Files come with their types, folders with their index; the unknown is no page.
    """
    response = ask(path)
    assert (response.status, response.body) == (200, body)
    assert response.fields["content-type"].partition(";")[0] == kind


def test_serves_ranges(ask: Callable[..., Response]) -> None:
    """
    A part of a file can be asked for.
    """
    response = ask("/index.html", "Range: bytes=3-5")
    assert (response.status, response.body) == (206, b"hom")
    assert response.fields["content-range"] == "bytes 3-5/7"


def test_unchanged_files_are_not_sent_again(ask: Callable[..., Response]) -> None:
    """
    Who has the present version is told so.
    """
    modified = ask("/index.html").fields["last-modified"]
    assert ask("/index.html", f"If-Modified-Since: {modified}").status == 304


def test_folders_are_redirected_to(ask: Callable[..., Response]) -> None:
    """
    A folder without its slash is somewhere else.
    """
    response = ask("/folder")
    assert response.status in (301, 302)
    assert response.fields["location"].endswith("/folder/")


@pytest.mark.parametrize(
    "path",
    [
        "/empty/",
        "/nothing",
        "/away",
        "/dir/key",
        "/dir/",
        "/../site-secret",
        "/%2e%2e/site-secret",
        "/..%2fsite-secret",
        "/folder/../../site-secret",
        "/index.html/",
        "/%ff",
        "/%00",
    ],
)
def test_nothing_else_is_found(ask: Callable[..., Response], path: str) -> None:
    """
    No listings, nothing outside the directory by dots or links, no nonsense.
    """
    response = ask(path)
    assert response.status == 404
    assert b"secret" not in response.body


@pytest.mark.parametrize(
    "path",
    [
        "/.env",
        "/.git/config",
        "/%2eenv",
        "/folder/.hidden",
        "/folder/.well-known/a",
        "/.well-known/.a",
        "/./",
    ],
)
def test_fault_39_dotfiles_are_not_served(
    site: Path, ask: Callable[..., Response], path: str
) -> None:
    """
    Fault 39: what has a dot before its name is not found, but for ``/.well-known/``.
    """
    for name in (
        ".env",
        ".git/config",
        "folder/.hidden",
        ".well-known/a",
        "folder/.well-known/a",
        ".well-known/.a",
    ):
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text("dots")
    assert ask("/.well-known/a").body == b"dots"
    assert ask(path).status == 404


def test_fault_39_dotfiles_can_be_asked_for(site: Path) -> None:
    """
    Fault 39: ``--static-dotfiles on`` serves them, in folders too.
    """
    (site / "folder" / ".hidden").write_text("dots")
    settings = Settings.read({"static": str(site), "static_dotfiles": "on"})
    visitors = Visitors()
    with a_reactor() as reactor:
        loop = reactor._asyncioEventloop
        host = build_host(settings, reactor, SessionRegistry(MemorySessionStore(reactor), reactor))
        client: Any = visitors.visit(host)
        assert run(loop, client.ask("/folder/.hidden")).body == b"dots"
        visitors.close()
        run(loop, fired(host.drain()))
        run(loop, fired(host.stop()))


#: Of a file of 100 bytes: what is asked for, and which bytes come; None is all of it.
RANGES = [
    ("bytes=-5000", (0, 99)),
    ("bytes=-100", (0, 99)),
    ("bytes=-1", (99, 99)),
    ("bytes=0-0", (0, 0)),
    ("bytes=99-", (99, 99)),
    ("bytes=90-500", (90, 99)),
    ("BYTES = 1-2", (1, 2)),
    ("bytes=1-2,", (1, 2)),
    ("bytes=1-2, 200-300", (1, 2)),
    ("bytes=0-" + "9" * 5000, (0, 99)),
    ("bytes=5-3", None),
    ("bytes=", None),
    ("bytes=-", None),
    ("bytes=a-b", None),
    ("bytes=1-2,x", None),
    ("bytes=0-99,0-99", None),
    ("bytes=" + ",".join(["1-1"] * 17), None),
    ("lines=1-2", None),
]


@pytest.fixture
def hundred(site: Path) -> bytes:
    """
    A file of 100 bytes, each of which is another.
    """
    content = bytes(range(100))
    (site / "hundred").write_bytes(content)
    return content


@pytest.mark.parametrize(("wanted", "expected"), RANGES)
def test_fault_39_range(
    ask: Callable[..., Response], hundred: bytes, wanted: str, expected: tuple[int, int] | None
) -> None:
    """
    Fault 39: a range that is longer than the file, or malformed, is what RFC 9110 makes of
    it; HEAD has none.
    """
    response = ask("/hundred", f"Range: {wanted}")
    if expected is None:
        assert (response.status, response.body) == (200, hundred)
        assert "content-range" not in response.fields
    else:
        first, last = expected
        assert (response.status, response.body) == (206, hundred[first : last + 1])
        assert response.fields["content-range"] == f"bytes {first}-{last}/100"


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=-0", "bytes=100-200,-0"])
def test_fault_39_nothing_in_range(
    ask: Callable[..., Response], hundred: bytes, wanted: str
) -> None:
    """
    Fault 39: a range that has nothing of the file is 416, which says how long it is.
    """
    response = ask("/hundred", f"Range: {wanted}")
    assert (response.status, response.body) == (416, b"")
    assert response.fields["content-range"] == "bytes */100"
    assert ask("/hundred").status == 200


def test_fault_39_several_ranges(ask: Callable[..., Response], hundred: bytes) -> None:
    """
    Fault 39: several parts come in a multipart body, with the length that it has.
    """
    response = ask("/hundred", "Range: bytes=90-94,1-2,-1")
    assert response.status == 206
    kind, _, boundary = response.fields["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert int(response.fields["content-length"]) == len(response.body)
    kind = "application/octet-stream"
    head = f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes "
    expected = b"".join(
        b"%b%b/100\r\n\r\n%b" % (head.encode(), name, part)
        for name, part in (
            (b"90-94", hundred[90:95]),
            (b"1-2", hundred[1:3]),
            (b"99-99", hundred[99:]),
        )
    )
    assert response.body == expected + b"\r\n--" + boundary.encode() + b"--\r\n"


LATER, EARLIER = "Fri, 01 Jan 2100 00:00:00 GMT", "Mon, 01 Jan 2001 00:00:00 GMT"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (("If-Match: {etag}",), 200),
        (("If-Match: *",), 200),
        (('If-Match: "a", {etag}',), 200),
        (('If-Match: "a"', "If-Match: {etag}"), 200),
        (("If-Match: W/{etag}",), 412),
        (('If-Match: "a"',), 412),
        (('If-Match: "a"', "If-None-Match: {etag}"), 412),
        (("If-Match: {etag}", f"If-Unmodified-Since: {EARLIER}"), 200),
        ((f"If-Unmodified-Since: {EARLIER}",), 412),
        (("If-Unmodified-Since: {modified}",), 200),
        (("If-Unmodified-Since: nonsense",), 200),
        (("If-None-Match: {etag}",), 304),
        (('If-None-Match: "a", W/{etag}',), 304),
        (("If-None-Match: *",), 304),
        (('If-None-Match: "a"', "If-Modified-Since: {modified}"), 200),
        (("If-None-Match: {etag}", f"If-Modified-Since: {EARLIER}"), 304),
        (("If-Modified-Since: {modified}",), 304),
        ((f"If-Modified-Since: {LATER}",), 304),
        ((f"If-Modified-Since: {EARLIER}",), 200),
        (("If-Modified-Since: 0",), 200),
        (("Range: bytes=0-1", "If-Range: {etag}"), 206),
        (("Range: bytes=0-1", "If-Range: {modified}"), 206),
        (("Range: bytes=0-1", "If-Range: W/{etag}"), 200),
        (("Range: bytes=0-1", 'If-Range: "stale"'), 200),
        (("Range: bytes=0-1", f"If-Range: {EARLIER}"), 200),
        (("Range: bytes=0-1", f"If-Range: {LATER}"), 200),
        (("Range: bytes=0-1", "If-Range: nonsense"), 200),
        (("Range: bytes=0-1", "If-None-Match: {etag}"), 304),
        (("Range: bytes=0-1", 'If-Match: "a"'), 412),
        (("Range: bytes=500-", 'If-Range: "stale"'), 200),
    ],
)
def test_fault_39_preconditions(
    ask: Callable[..., Response], hundred: bytes, fields: tuple[str, ...], status: int
) -> None:
    """
    Fault 39: conditions in the order of RFC 9110, 13.2.2; a part only of the version that
    the client has.
    """
    whole = ask("/hundred")
    etag, modified = whole.fields["etag"], whole.fields["last-modified"]
    response = ask("/hundred", *(f.format(etag=etag, modified=modified) for f in fields))
    assert response.status == status
    assert response.body == {200: hundred, 206: hundred[:2], 304: b""}.get(status, response.body)
    assert ask("/hundred").body == hundred


def test_fault_39_a_file_that_is_changed_is_another_version(
    site: Path, ask: Callable[..., Response], hundred: bytes
) -> None:
    """
    Fault 39: also one of the same length, changed within the same second.
    """
    former = ask("/hundred").fields["etag"]
    status = (site / "hundred").stat()
    (site / "hundred").write_bytes(hundred[::-1])
    os.utime(site / "hundred", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    response = ask("/hundred", "Range: bytes=0-1", f"If-Range: {former}")
    assert (response.status, response.body) == (200, hundred[::-1])


@pytest.mark.parametrize("wanted", [(), ("Range: bytes=10-",)])
def test_large_files_come_whole(
    site: Path, ask: Callable[..., Response], wanted: tuple[str, ...]
) -> None:
    """
    Of a file that does not fit into one write all comes, and a file that is written to
    meanwhile does not become longer than its length says.
    """
    content = os.urandom(300_000)
    (site / "large").write_bytes(content)
    assert ask("/large", *wanted).body == content[10 if wanted else 0 :]


def test_what_blocks_is_not_opened(site: Path, ask: Callable[..., Response]) -> None:
    """
    A pipe in the directory is not found, and does not stop the worker.
    """
    os.mkfifo(site / "pipe")
    assert ask("/pipe").status == 404


def test_file_that_becomes_shorter(site: Path) -> None:
    """
    The rest of a file that somebody cuts off cannot be sent: the client is told by the end
    of the connection.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from stickyd.serve.static.files import StaticFiles
    large = site / "large"
    large.write_bytes(b"x" * 300_000)
    wire = Wire(StaticFiles(str(site)))
    wire.channel.pauseProducing()
    wire.feed(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    os.truncate(large, 10)
    wire.channel.resumeProducing()
    assert len(wire.output()) < 300_000
    assert wire.transport.disconnecting or wire.transport.disconnected


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/data.json", 200), ("*", 200), ("/nothing", 404)]
)
@pytest.mark.parametrize("index", [True, False])
def test_fault_42_options(site: Path, version: str, path: str, status: int, index: bool) -> None:
    """
    Fault 42: OPTIONS is answered, for the directory even if it has no index.
    """
    if not index:
        (site / "index.html").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from stickyd.serve.static.files import StaticFiles
    wire = Wire(StaticFiles(str(site)))
    wire.feed(f"OPTIONS {path} HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    assert wire.output().split()[1] == b"%d" % status
