"""
How often a request of a resource asks a store that is not in memory.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stickyd.sessions.interfaces import ISessionData
from stickyd.sessions.stores.memory import MemorySessionStore
from tests.sessions.faulty import FaultyStore
from tests.sessions.web.web import COOKIE, Web

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.task import Clock


def ignore(request: Any) -> bytes:
    """
    Ask for no session.
    """
    return b"nothing"


def read(request: Any) -> bytes:
    """
    Read the session.
    """
    return b"%d" % request.getSession(ISessionData).get("n", 0)


def change(request: Any) -> bytes:
    """
    Change it, twice.
    """
    data = request.getSession(ISessionData)
    data["n"] = data.get("n", 0) + 1
    data["m"] = data["n"]
    return b"%d" % data["n"]


class Counted:
    """
    A site whose store counts.
    """

    def __init__(self) -> None:
        self.web = Web(change, store_of=self._make)
        self.web.site.session_trusted = lambda request: True

    def _make(self, clock: Clock) -> FaultyStore:
        self.store = FaultyStore(MemorySessionStore(clock))
        return self.store

    def get(self, render: Callable[[Any], bytes]) -> tuple[bytes, list[str]]:
        """
        Send a request.

        :return: the answer, and what the store was asked.
        """
        self.store.calls.clear()
        self.web.site.resource.render_GET = render
        exchange = self.web.begin()
        self.store.run()
        self.web.cookies.update(exchange.response.cookies)
        return exchange.response.body, list(self.store.calls)


@pytest.fixture
def counted() -> Counted:
    """
    A site.
    """
    return Counted()


def test_no_session(counted: Counted) -> None:
    """
    A request without a cookie that asks for no session costs no round trip, nor does one whose
    session the worker keeps.
    """
    assert counted.get(ignore) == (b"nothing", [])
    counted.get(change)
    assert counted.get(ignore) == (b"nothing", [])


def test_reads_and_changes(counted: Counted) -> None:
    """
    A new session and each change cost one round trip, a read of what the worker keeps none.
    """
    assert counted.get(change) == (b"1", ["save"])
    assert counted.get(read) == (b"1", [])
    assert counted.get(change) == (b"2", ["save"])
    assert counted.get(read) == (b"2", [])


def test_first_request_at_a_worker(counted: Counted) -> None:
    """
    What the worker does not keep costs one round trip more, once.
    """
    counted.get(change)
    other = Counted()
    other.web.cookies[COOKIE] = counted.web.cookies[COOKIE]
    other.store.behind = counted.store.behind
    assert other.get(read) == (b"1", ["load"])
    assert other.get(change) == (b"2", ["save"])
