"""
A session of ours that is deleted releases its client: the next request may go to newer code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.test_app_sessions import APPLICATIONS, Browser
from tests.system.test_reload_by_client import BY_CLIENT, HERE

if TYPE_CHECKING:
    from tests.system.conftest import Start

KINDS = {"resource": ("--resource", f"{HERE}:session_site"), **APPLICATIONS}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind == "resource" else pytest.mark.soak) for kind in KINDS],
)
def test_who_has_logged_out_moves_on(kind: str, start: Start) -> None:
    """
    Whoever logs out at an old worker is a newcomer with the next request; who gets another
    session in the same request stays with it; and when all have logged out, the worker leaves.
    """
    server = start(*KINDS[kind], "--affinity", "cookie:stickyd", *BY_CLIENT, workers=1)
    old = server.worker(0)
    one, two = Browser(server, "127.0.0.1"), Browser(server, "127.0.0.1")
    for browser in (one, two):
        assert [browser.get("/count") for _ in (1, 2)] == [{"pid": old, "n": n} for n in (1, 2)]
    server.reload()
    fresh = server.worker(0)
    for browser in (one, two):
        assert browser.get("/count") == {"pid": old, "n": 3}
    assert one.get("/logout")["pid"] == old
    assert one.get("/count") == {"pid": fresh, "n": 1}
    assert two.get("/renew") == {"pid": old, "n": 1}
    assert two.get("/count") == {"pid": old, "n": 2}
    two.get("/logout")
    server.log.wait_for(rf"Worker {old} \(slot 0\) exited with code 0")
    assert two.get("/count") == {"pid": fresh, "n": 1}
    assert one.get("/count") == {"pid": fresh, "n": 2}
