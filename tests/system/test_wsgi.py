"""
WSGI applications on a real server: at a reload, and when their threads are stuck.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from tests.system.client import Client, ask_once

if TYPE_CHECKING:
    from tests.system.conftest import Start
    from tests.system.gate import Gate

APPLICATION = ("--wsgi-factory", "tests.system.frameworks.wsgi_waiting:make_app")


def test_a_request_under_way_is_finished_at_a_reload(start: Start, gate: Gate) -> None:
    """
    By the worker that has begun it; the next one goes to a fresh worker.
    """
    server = start(*APPLICATION, workers=1, variables=gate.variables)
    old = server.worker(0)
    with closing(Client(server.target)) as client:
        client.send("/gate")
        gate.wait_for_arrival()
        server.reload()
        fresh = server.worker(0)
        assert int(ask_once(server.target).body) == fresh != old
        gate.open()
        assert int(client.answer().body) == old
        assert int(client.ask().body) == fresh


def test_a_worker_whose_threads_are_stuck_is_replaced(start: Start) -> None:
    """
    The log names the request and the line; another worker takes the place, and serves.
    """
    server = start(
        *(*APPLICATION, "--wsgi-threads", "1", "--request-timeout", "1"),
        *("--drain-timeout", "1", "--stop-timeout", "1"),
        workers=1,
    )
    # The last one: the lines of its stack.
    server.allow("has not begun to answer", "are stuck", "have been busy", r"slot 0\]   ")
    server.allow("did not stop in time")  # a thread cannot be ended
    old = server.worker(0)
    with closing(Client(server.target)) as client:
        client.send("/stuck")
        server.log.wait_for("has not begun to answer GET /stuck for")
        server.log.wait_for("1 of 1 threads of the WSGI application are stuck")
        fresh = server.wait_for_successor(old)
        assert int(ask_once(server.target).body) == fresh
