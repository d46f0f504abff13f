"""
What is left for a worker that finishes: :mod:`stickyd.worker.rest`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from stickyd.serve.under_way import CONNECTION, REQUEST, WEBSOCKET, UnderWay
from stickyd.worker.rest import count_rest, name_rest


def host(*under_way: UnderWay) -> Any:
    """
    A host with one connection for each of them, and an idle one.
    """
    connections = [
        SimpleNamespace(
            handoff=SimpleNamespace(host="192.0.2.7"), under_way=lambda each=each: [each]
        )
        for each in under_way
    ]
    idle = SimpleNamespace(handoff=None, under_way=list)
    return SimpleNamespace(served=lambda: iter([*connections, idle]))


def test_what_is_counted() -> None:
    """
    Requests without a response wait; whatever else goes on is a stream.
    """
    busy = host(
        UnderWay(REQUEST, 1, b"GET", b"/a"),
        UnderWay(REQUEST, 1, b"GET", b"/b", 200),
        UnderWay(WEBSOCKET, 1, b"GET", b"/c", 101),
        UnderWay(CONNECTION, 1),
    )
    assert count_rest(busy) == (1, 3)
    assert count_rest(host()) == (0, 0)


def test_what_is_named() -> None:
    """
    A few of them, without their queries.
    """
    busy = host(
        UnderWay(REQUEST, 1, b"GET", b"/a?token=secret"),
        UnderWay(WEBSOCKET, 1, b"GET", b"/c", 101),
        UnderWay(CONNECTION, 1),
    )
    assert name_rest(busy) == (
        "GET /a of 192.0.2.7, websocket /c of 192.0.2.7, connection of 192.0.2.7"
    )
    assert name_rest(host()) == ""
    many = host(*[UnderWay(REQUEST, 1, b"GET", b"/")] * 12)
    assert name_rest(many).endswith("GET / of 192.0.2.7, and 2 more")
