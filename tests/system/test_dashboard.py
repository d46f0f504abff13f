"""
The dashboard in Chromium: live, usable by keyboard, from a phone to a wide screen.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system.asking import FEW, Asking
from tests.system.client import ask_once

if TYPE_CHECKING:
    from tests.system.chromium import Browser
    from tests.system.conftest import Start

#: Where pictures for the documentation go; without it none are taken.
PICTURES = os.environ.get("STICKYD_PICTURES", "")

ROW = "document.querySelectorAll('#slots tbody tr').length"
LIVE = "document.querySelector('#live').textContent"
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


def test_dashboard_shows_and_changes_the_server(start: Start, browser: Browser) -> None:
    """
    Who has the token sees slots, keys, events and who serves a client, and drains, resizes and
    reloads by keyboard, after being asked; the page fits on a phone, in the light and in the
    dark, and loads nothing from elsewhere.
    """
    server = start("--admin", "0", workers=2, before=FEW)
    asking = Asking(server)
    for number in range(1, 31):
        ask_once(server.target, f"127.0.0.{number}")
    stranger = browser.open(f"http://127.0.0.1:{asking.port}/")
    assert stranger.run("document.querySelector('#slots')") is None
    stranger.run("document.querySelector('#token').focus()")
    stranger.type("wrong")
    stranger.press("Enter")
    stranger.until("document.title === 'stickyd' && !document.querySelector('#token').value")
    stranger.close()
    with closing(browser.open(asking.url)) as page:
        page.until(f"{ROW} === 2 && {LIVE} === 'live'")
        assert page.run("location.search") == ""
        assert page.run("document.cookie") == ""
        page.until("document.querySelector('#ready').textContent === 'ready'")
        page.until("document.querySelectorAll('#spread rect').length === 600")
        page.until("document.querySelectorAll('#log li').length > 3")
        page.run("document.querySelector('#client').focus()")
        page.type("203.0.113.7")
        page.press("Enter")
        page.until("document.querySelector('#explained').textContent.includes('Slot ')")
        for width in (360, 800, 1920):
            page.resize(width, 900)
            assert page.run(FITS), width
        page.resize(1280, 800)
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            if PICTURES:
                page.picture(Path(PICTURES) / f"dashboard-{scheme}.png")
        if PICTURES:
            page.resize(390, 844)
            page.picture(Path(PICTURES) / "dashboard-phone.png")
            page.resize(1920, 900)
        # By keyboard: not at the first Enter, which only asks.
        page.run("document.querySelector('#slots tbody tr:nth-child(2) button').focus()")
        page.press("Enter")
        page.until("document.querySelector('#ask').open")
        page.press("Escape")
        page.until("!document.querySelector('#ask').open")
        assert asking.status()["drained"] == []
        page.press("Enter")
        page.run("document.querySelector('#go').focus()")
        page.press("Enter")
        page.until("!document.querySelector('#ask').open")
        page.until("document.querySelector('#slots').textContent.includes('draining')")
        assert asking.status()["drained"] == [1]
        page.run("document.querySelector('#resize').click()")
        page.run("document.querySelector('#number').value = 300")
        page.run("document.querySelector('#go').click()")
        page.until("document.querySelector('#problem').textContent.includes('256')")
        page.run("document.querySelector('#number').value = 3")
        page.run("document.querySelector('#go').click()")
        page.until(f"{ROW} === 3 && !document.querySelector('#ask').open")
        with ExitStack() as stack:
            while asking.listen(stack)[1].split()[1] == b"200":
                pass
            late = stack.enter_context(closing(browser.open(asking.url)))
            late.until(f"{LIVE} === 'too many dashboards are open'")
        # The server's refusal of 300 is told by the browser too.
        assert [each for each in page.problems if "409" not in each] == []
    server.allow("Not resized")
