"""
Tests of making the store in Redis.
"""

from __future__ import annotations

import asyncio
import sys

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.task import Clock

from stickyd.errors import SettingError
from stickyd.sessions.stores.opening import StoreContext, open_store
from stickyd.settings.session_url import parse_session_url
from tests.reactors import private_reactor


def test_without_redis_py(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A missing package is one line that says what to install.
    """
    for name in [name for name in sys.modules if name.startswith("stickyd.sessions.stores.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.exceptions", None)
    loop = asyncio.new_event_loop()
    reactor = AsyncioSelectorReactor(loop)
    try:
        with pytest.raises(SettingError, match=r"pip install 'stickyd\[redis\]'") as raised:
            open_store(parse_session_url("redis://:s3cret@db"), StoreContext(reactor, Clock()))
    finally:
        reactor.removeAll()
        reactor.waker.connectionLost(None)
        loop.close()
    assert "s3cret" not in str(raised.value)


def test_without_an_asyncio_loop() -> None:
    """
    A reactor without one is one line too.
    """
    with private_reactor() as reactor:
        context = StoreContext(reactor, Clock())
        with pytest.raises(SettingError, match="need an asyncio loop; write --worker-reactor"):
            open_store(parse_session_url("valkeys://db"), context)
