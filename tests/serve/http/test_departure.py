"""
Tests of what decides whether a connection goes on elsewhere.
"""

from __future__ import annotations

from typing import Any

import pytest

from stickyd.affinity.peek.http1 import Head
from stickyd.handoff.frame import Handoff
from stickyd.serve.http.departure import Departure

HEAD = Head(b"GET", b"/", [])


def handoff() -> Handoff:
    """
    What brought the connection.
    """
    return Handoff(-1, "192.0.2.1", 1, b"key")


def take(sock: object, unread: bytes) -> None:
    """
    Be told apart from others.
    """


def other(sock: object, unread: bytes) -> None:
    """
    Be another.
    """


def routing(target: Any) -> Any:
    """
    A route that gives everything to one.
    """
    return lambda head, handoff: target


@pytest.mark.parametrize("target", [take, None])
def test_route_decides_by_the_request(target: Any) -> None:
    """
    The connection leaves with a request that the route gives to another, and only with that.
    """
    departure = Departure(handoff(), routing(target))
    assert departure.request_goes(HEAD) == (target is not None)
    assert departure.take is target
    assert not departure.awaited


def test_what_came_without_a_handoff_is_not_routed() -> None:
    """
    Nobody could say where it came from, but the host may have it leave.
    """
    departure = Departure(None, routing(take))
    assert not departure.request_goes(HEAD)
    departure.offer(lambda _: False, other)
    assert not departure.request_goes(HEAD)
    assert departure.goes_now()
    assert departure.take is other


@pytest.mark.parametrize("goes", [True, False])
def test_offer_is_asked_about_again(goes: bool) -> None:
    """
    A connection that had to wait may stay after all; then nothing is awaited any more, and its
    requests are routed as before.
    """
    departure = Departure(handoff(), routing(other))
    departure.offer(lambda _: goes, take)
    assert departure.awaited
    assert departure.goes_now() == goes
    assert (departure.take, departure.awaited) == ((take, True) if goes else (None, False))
    assert departure.request_goes(HEAD)
    assert departure.take == (take if goes else other)


def test_later_offer_comes_first() -> None:
    """
    Of two offers the later one is asked first, for requests too.
    """
    departure = Departure(handoff(), None)
    departure.offer(lambda _: True, other)
    departure.offer(lambda _: True, take)
    assert departure.request_goes(HEAD)
    assert departure.take is take


def test_next_request_may_leave_in_any_case() -> None:
    """
    What follows its session leaves with the next request, whatever the route says.
    """
    departure = Departure(handoff(), routing(None))
    departure.take_next(take)
    assert not departure.awaited
    assert departure.request_goes(HEAD)
    assert departure.take is take
