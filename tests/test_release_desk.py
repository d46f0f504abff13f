"""
``stickyd.release_client()``.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import stickyd
from stickyd.affinity.client_identity import CLIENT, note_client
from stickyd.errors import ApplicationError
from stickyd.handoff.frame import Handoff
from stickyd.release_desk import ReleaseDesk, client_of


def _handoff(client: bytes | None) -> Handoff:
    handoff = Handoff(0, "192.0.2.1", 1, b"")
    handoff.client = client
    return handoff


def _told(client: bytes | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    note_client(told, _handoff(client))
    return told


def _twisted(client: bytes | None) -> Any:
    return SimpleNamespace(channel=SimpleNamespace(handoff=_handoff(client)))


@pytest.mark.parametrize(
    "request_of",
    [
        _told,
        lambda client: SimpleNamespace(scope=_told(client)),
        lambda client: SimpleNamespace(environ=_told(client)),
        lambda client: SimpleNamespace(META=_told(client)),
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


def test_a_newcomer_has_a_name_when_its_response_begins() -> None:
    """
    Of a newcomer the token that its first response gives tells who it is, to copies of the scope
    too; another request on the connection does not change that.
    """
    handoff = _handoff(None)
    handoff.newcomer = ""
    told: dict[str, Any] = {}
    note_client(told, handoff)
    copied = dict(told)
    assert client_of(copied) is None
    told[CLIENT].meet(b"t1")
    assert client_of(copied) == handoff.client == b"t1"
    handoff.client = b"t2"
    assert client_of(copied) == b"t1"


def test_it_goes_to_the_reactor() -> None:
    """
    The release is made in the reactor's thread; one of nobody does nothing.
    """
    desk = ReleaseDesk()
    released: list[bytes] = []
    called: list[Any] = []
    desk.open(lambda call, *given: called.append((call, given)), released.append)
    desk.release({})
    desk.release(_told(b"tc"))
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
