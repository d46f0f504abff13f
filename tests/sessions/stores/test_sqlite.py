"""
Tests of the store in SQLite files.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from twisted.trial.unittest import SynchronousTestCase

from stickyd.sessions.conformance_carried import CarriedStoreConformance
from stickyd.sessions.stores.opening import StoreContext, open_store
from stickyd.settings.session_url import parse_session_url
from tests.sessions.stores.threads import ThreadClock

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.task import Clock

    from stickyd.sessions.interfaces import ICarriedStore
    from stickyd.sessions.stores.sqlite import SqliteSessionStore

_T = TypeVar("_T")


def make_store(
    directory: Path, clock: ThreadClock, query: str = "", **options: Any
) -> SqliteSessionStore:
    """
    Make a store as a worker does.
    """
    url = parse_session_url(f"sqlite:{directory}{query}")
    store: Any = open_store(url, StoreContext(clock, clock, **options))
    return cast("SqliteSessionStore", store)


class TestSqliteStore(CarriedStoreConformance, SynchronousTestCase):
    """
    The store keeps the contract.
    """

    keys: tuple[bytes, ...] = ()

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        super().setUp()

    def make_clock(self) -> Clock:
        self.threads = ThreadClock()
        return self.threads

    def make_store(self, clock: Clock) -> ICarriedStore:
        return make_store(self.directory, self.threads, keys=self.keys)

    def settle(self, deferred: Deferred[_T]) -> _T:
        return self.threads.settle(deferred)


class TestSealedSqliteStore(TestSqliteStore):
    """
    So it does with its records encrypted.
    """

    keys = (b"a secret of sixteen bytes", b"another one of many bytes")
