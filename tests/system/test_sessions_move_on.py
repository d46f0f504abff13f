"""
A session in memory goes where its client goes next, also when that is known to nobody any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.asking import Asking
from tests.system.client import Client
from tests.system.placing import sources_of
from tests.system.processes import eventually
from tests.system.test_app_sessions import Browser

if TYPE_CHECKING:
    from tests.system.conftest import Start

BY_CLIENT = (
    *("--resource", "tests.system.keeping_apps:session_site", "--reload-mode", "client"),
    *("--admin", "tcp:0:interface=127.0.0.1"),
)


def visit(browser: Browser, client: Client | None = None) -> tuple[int, int]:
    """
    Count a visit in the browser's session.

    :param client: the connection that it comes by; one of its own by default.
    :return: the worker's pid and the number of visits.
    """
    told = browser.get("/count") if client is None else browser.get_by(client, "/count")
    return told["pid"], told["n"]


def has_sessions(asking: Asking, pid: int, count: int) -> bool:
    """
    Whether a worker says that it has so many sessions.
    """
    workers = [worker for slot in asking.status()["slots"] for worker in slot["workers"]]
    return [each["sessions"] for each in workers if each["pid"] == pid] == [count]


@pytest.mark.parametrize("affinity", ["ip", "cookie:stickyd", "cookie:stickyd,ip"])
def test_of_who_was_silent(affinity: str, start: Start) -> None:
    """
    Whoever an old worker knows no longer, as it was silent, has its session at the present one.
    """
    arguments = ("--affinity", affinity, *BY_CLIENT, "--client-idle", "0.5")
    server = start(*arguments, workers=1)
    asking = Asking(server)
    silent, once, present = (Browser(server, f"127.0.0.{n}") for n in (2, 3, 4))
    old = server.worker(0)
    assert [visit(silent), visit(silent), visit(once)] == [(old, 1), (old, 2), (old, 1)]
    with Client(server.target, "127.0.0.4") as kept:
        assert visit(present, kept) == (old, 1)
        server.reload()
        fresh = server.worker(0)
        assert eventually(lambda: has_sessions(asking, fresh, 2)), (
            asking.status(),
            server.log.text,
        )
        assert visit(silent) == (fresh, 3)
        assert visit(once) == (fresh, 2)
        assert visit(present, kept) == (old, 2)
    server.log.wait_for(rf"Worker {old} \(slot 0\) exited with code 0")
    assert visit(present) == (fresh, 3)


def test_of_who_has_not_come_since(start: Start) -> None:
    """
    A session that was carried to a worker, whose client has not come there before the next reload,
    is carried on.
    """
    server = start(*BY_CLIENT, "--drain-timeout", "0.5", workers=2)
    browser = Browser(server, *sources_of(1, 2, 1))
    old = server.worker(1)
    assert visit(browser) == (old, 1)
    server.resize_to(1)
    server.log.wait_for(rf"Worker {old} \(slot 1\) exited with code 0")
    server.reload()
    assert visit(browser) == (server.worker(0), 2)


def test_of_who_was_released(start: Start) -> None:
    """
    Whom the application releases takes its session along to newer code with the next request.
    """
    server = start(*BY_CLIENT, "--affinity", "cookie:stickyd", workers=1)
    one, two = (Browser(server, "127.0.0.1") for _ in range(2))
    old = server.worker(0)
    assert [one.get("/count"), two.get("/count")] == [{"pid": old, "n": 1}] * 2
    server.reload()
    assert one.get("/release") == {"pid": old, "n": 2}
    assert one.get("/count") == {"pid": server.worker(0), "n": 3}
    assert two.get("/count") == {"pid": old, "n": 2}
