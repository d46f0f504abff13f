"""
``stickyd.release_client()``.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import stickyd
from stickyd.affinity.client_identity import CLIENT
from stickyd.errors import ApplicationError
from stickyd.handoff.frame import Handoff
from stickyd.release_desk import ReleaseDesk, client_of


def _twisted(client: bytes | None) -> Any:
    handoff = Handoff(0, "192.0.2.1", 1, b"")
    handoff.client = client
    return SimpleNamespace(channel=SimpleNamespace(handoff=handoff))


@pytest.mark.parametrize(
    "request_of",
    [
        lambda client: {CLIENT: client},
        lambda client: SimpleNamespace(scope={CLIENT: client}),
        lambda client: SimpleNamespace(environ={CLIENT: client}),
        lambda client: SimpleNamespace(META={CLIENT: client}),
        _twisted,
    ],
    ids=["scope", "Starlette", "Flask", "Django", "twisted.web"],
)
def test_it_takes_the_request_of_any_framework(request_of: Any) -> None:
    """
    The client of a request is found wherever its framework has it; a newcomer has no name yet.
    """
    assert client_of(request_of(b"tc")) == b"tc"
    assert client_of(request_of(None)) is None


def test_it_goes_to_the_reactor() -> None:
    """
    The release is made in the reactor's thread; one of nobody does nothing.
    """
    desk = ReleaseDesk()
    released: list[bytes] = []
    called: list[Any] = []
    desk.open(lambda call, *given: called.append((call, given)), released.append)
    desk.release({})
    desk.release({CLIENT: b"tc"})
    made = [*released, *(given[0] for _, given in called)]
    assert made == [b"tc"]


def test_what_is_none_is_named() -> None:
    """
    Something else than a request, a request that is over, and a process without a worker.
    """
    with pytest.raises(ApplicationError, match="takes the request that is being handled"):
        client_of(7)
    assert client_of(SimpleNamespace(channel=None)) is None
    with pytest.raises(ApplicationError, match="where no stickyd worker runs"):
        stickyd.release_client({})
