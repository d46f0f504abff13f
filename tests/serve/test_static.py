"""
Static files: what is found, and what is not.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.net.readiness import readiness_of
from stickyd.serve.resource import ResourceHost
from tests.hosting import Response, Visitors, a_reactor, fired, run

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
        from stickyd.serve.static import StaticFiles
    visitors = Visitors()
    with a_reactor() as reactor:
        host = ResourceHost(StaticFiles(str(site)), reactor, readiness_of(reactor))
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
