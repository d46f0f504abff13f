"""
Browsers: Chromium keeps the sticky cookie as it is set, and by it each of its profiles keeps
its worker.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from tests.tls_harness import write_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.chromium import Browser, Page
    from tests.system.conftest import Start
    from tests.system.server import Server

WORKERS = 4
PROFILES = 8

#: More at a time than a browser opens connections to one host.
AT_ONCE = 10

SITE = ("--resource", "tests.system.frameworks.page:site", "--affinity", "cookie:stickyd")


def count(page: Page) -> tuple[int, int]:
    """
    Count in the page's session, by ``fetch``.

    :return: the worker's pid and the count.
    """
    told = page.run("count()")
    return told["pid"], told["count"]


def talk(page: Page, text: str) -> int:
    """
    Talk over the page's WebSocket.

    :return: the pid of the worker at its other end.
    """
    pid, _, echo = page.run(f"talk({text!r})").partition(" ")
    assert echo == text
    return int(pid)


def use(page: Page) -> int:
    """
    Load the page again, fetch one at a time and many at once, and talk; all of which must
    reach one worker and its session, which is new.

    :return: the pid of the worker.
    """
    pids = {page.run("pid"), talk(page, "hello")}
    counted = [count(page), count(page)]
    page.load()
    pids |= {page.run("pid"), talk(page, "hello again")}
    many = page.run(f"Promise.all(Array.from({{length: {AT_ONCE}}}, count))")
    counted += [(told["pid"], told["count"]) for told in many]
    # Those at once may overtake each other.
    assert sorted(number for _, number in counted) == list(range(1, AT_ONCE + 3))
    (pid,) = pids | {pid for pid, _ in counted}
    assert isinstance(pid, int)
    return pid


def check_cookie(page: Page, scheme: str) -> None:
    """
    Look at what Chromium made of the cookie, and that no script sees it.
    """
    cookie = page.cookies()["stickyd"]
    expected = {
        "domain": "127.0.0.1",
        "path": "/",
        "expires": -1,
        "httpOnly": True,
        "secure": scheme == "https",
        "sameSite": "Lax",
    }
    assert {name: cookie[name] for name in expected} == expected
    page.run("document.cookie = 'mine=1'")
    assert page.run("document.cookie") == "mine=1"


def origin(server: Server, scheme: str) -> str:
    """
    The page's address.
    """
    return f"{scheme}://127.0.0.1:{server.port}/"


def secured(scheme: str, directory: Path) -> list[str]:
    """
    The options that a scheme needs.
    """
    if scheme == "http":
        return []
    # A browser opens one connection for all, if it may speak HTTP/2.
    return ["--tls", write_certificate(directory, "a", "a.test"), "--http2", "off"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_profiles_stick_through_a_reload(
    scheme: str, start: Start, browser: Browser, tmp_path: Path
) -> None:
    """
    From one address each profile stays on one worker, and all workers have some: page loads,
    fetches on up to six connections, WebSockets.  A reload takes the sessions along while the
    pages are open, and leaves their WebSockets where they are.
    """
    server = start(*SITE, *secured(scheme, tmp_path), workers=WORKERS)
    with ExitStack() as stack:
        pages = [
            stack.enter_context(closing(browser.open(origin(server, scheme))))
            for _ in range(PROFILES)
        ]
        homes = {page: use(page) for page in pages}
        for page in pages:
            check_cookie(page, scheme)
        assert set(homes.values()) == {worker.pid for worker in server.started}
        old = {page: server.slot_of(pid) for page, pid in homes.items()}
        server.reload()
        for page, slot in old.items():
            fresh = server.worker(slot)
            assert fresh != homes[page]
            assert [count(page), count(page)] == [(fresh, AT_ONCE + 3), (fresh, AT_ONCE + 4)]
            assert talk(page, "still there") == homes[page]
            page.load()
            assert page.run("pid") == fresh
            assert talk(page, "fresh") == fresh


def test_attributes_are_what_the_options_say(
    start: Start, browser: Browser, tmp_path: Path
) -> None:
    """
    Chromium keeps the cookie with the attributes that the options give it.
    """
    options = ("--cookie-samesite", "none", "--cookie-path", "/count", "--cookie-max-age", "900")
    server = start(*SITE, *options, *secured("https", tmp_path))
    with closing(browser.open(origin(server, "https"))) as page:
        count(page)
        cookie = page.cookies()["stickyd"]
        assert (cookie["sameSite"], cookie["secure"], cookie["path"]) == ("None", True, "/count")
        assert 0 < cookie["expires"] - page.run("Date.now() / 1000") <= 900
