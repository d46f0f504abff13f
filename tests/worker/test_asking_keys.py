"""
Who makes most requests: :mod:`stickyd.worker.asking_keys`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

from stickyd.affinity.client_identity import BY_KEY
from stickyd.figures.page import BEGUN, new_page
from stickyd.worker.asking_keys import LOOK_BEATS, AskingKeys


def connection(key: bytes, slot: int = BY_KEY) -> Any:
    """
    One that is open.
    """
    handoff = SimpleNamespace(key=key, slot=slot, host=f"host of {key.decode()}")
    return SimpleNamespace(handoff=handoff)


def test_requests_are_shared_out_among_connections() -> None:
    """
    Now and then, of what there was since; connections that a token placed have no key's share.
    """
    clock, page = Clock(), new_page()
    served = [*[connection(b"proxy")] * 6, connection(b"a"), connection(b"b", slot=1)]
    served += [SimpleNamespace(handoff=None)] * 2
    host: Any = SimpleNamespace(served=lambda: iter(served), connections=len(served))
    keys = AskingKeys(clock.seconds, host, page, 2.0)
    page[BEGUN] += 500
    assert keys.take() == (0, ())
    clock.advance(LOOK_BEATS * 2.0)
    assert keys.take() == (500, ((b"proxy", "host of proxy", 300), (b"a", "host of a", 50)))
    page[BEGUN] += 10
    assert keys.take() == (0, ())
    clock.advance(LOOK_BEATS * 2.0)
    assert keys.take()[0] == 10
    clock.advance(LOOK_BEATS * 2.0)
    assert keys.take() == (0, ())
