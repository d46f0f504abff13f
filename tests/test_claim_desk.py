"""
Claiming from an application.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import Deferred
from twisted.python import threadable

import stickyd
from stickyd.claim_desk import ClaimDesk, claims_of_response
from stickyd.confirmation import Confirmation
from stickyd.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Callable


class Rig:
    """
    A desk whose primary answers when the test says.
    """

    def __init__(self) -> None:
        self.claimed: list[bytes] = []
        self.called: list[Callable[[], object]] = []
        self.answer: Deferred[None] | None = Deferred()
        self.desk = ClaimDesk()
        self.desk.open(self._in_reactor, self._claim)

    def _claim(self, value: bytes) -> Deferred[None] | None:
        self.claimed.append(value)
        return self.answer

    def _in_reactor(self, function: Callable[..., object], *arguments: object) -> None:
        self.called.append(partial(function, *arguments))


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """
    A desk in the reactor's thread, which is the test's.
    """
    monkeypatch.setattr(threadable, "ioThread", threadable.getThreadID())
    return Rig()


def test_claim_outside_of_a_worker_is_an_error() -> None:
    """
    It says where it means something.
    """
    with pytest.raises(ApplicationError, match="only in an application that stickyd serves"):
        stickyd.claim("id")


def test_text_is_claimed_as_it_is_sent(rig: Rig) -> None:
    """
    Clients send bytes; text is UTF-8.
    """
    rig.desk.claim("idé")
    rig.desk.claim(b"id")
    assert rig.claimed == ["idé".encode(), b"id"]


def test_deferred_fires_when_the_primary_knows(rig: Rig) -> None:
    """
    So it does, also if it is asked for later, or twice.
    """
    claimed = rig.desk.claim("id")
    fired: list[None] = []
    claimed.deferred().addCallback(fired.append)
    assert fired == []
    assert rig.answer is not None
    rig.answer.callback(None)
    claimed.deferred().addCallback(fired.append)
    assert fired == [None, None]


def test_known_id_needs_no_answer(rig: Rig) -> None:
    """
    If there is nothing to wait for, nobody waits.
    """
    rig.answer = None
    claimed = rig.desk.claim("id")
    claimed.wait(0)


def test_claim_is_awaited_in_both_worlds(rig: Rig) -> None:
    """
    In a coroutine of Twisted's, and in a task of asyncio's.
    """
    said: list[str] = []
    assert rig.answer is not None

    async def twisted() -> None:
        await rig.desk.claim("id")
        said.append("twisted")

    async def under_asyncio() -> None:
        loop = asyncio.get_running_loop()
        rig.answer = Deferred()
        loop.call_later(0.01, rig.answer.callback, None)
        await asyncio.wait_for(_claimed(rig), 5)
        said.append("asyncio")

    Deferred.fromCoroutine(twisted())
    assert said == []
    rig.answer.callback(None)
    asyncio.run(under_asyncio())
    assert said == ["twisted", "asyncio"]


async def _claimed(rig: Rig) -> None:
    await rig.desk.claim("id")


def test_thread_claims_by_way_of_the_reactor(rig: Rig) -> None:
    """
    In a thread the claim is made in the reactor's, and may be waited for.
    """
    outcome: list[Confirmation] = []

    def work() -> None:
        claimed = rig.desk.claim("id")
        with pytest.raises(concurrent.futures.TimeoutError):
            claimed.wait(0)
        outcome.append(claimed)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert rig.claimed == []
    (call,) = rig.called
    call()
    assert rig.claimed == [b"id"]
    assert rig.answer is not None
    rig.answer.callback(None)
    (claimed,) = outcome
    claimed.wait(0)


def test_reactor_does_not_wait(rig: Rig) -> None:
    """
    To wait in the reactor's thread is an error, as nothing could come in.
    """
    with pytest.raises(RuntimeError, match="await"):
        rig.desk.claim("id").wait()


def test_response_learns_of_the_claims_that_are_made_for_it(rig: Rig) -> None:
    """
    What is claimed in the context of a request is noted there, and elsewhere not.
    """
    assert claims_of_response.get() is None
    token = claims_of_response.set([])
    try:
        claimed = rig.desk.claim("id")
        assert claims_of_response.get() == [claimed]
    finally:
        claims_of_response.reset(token)
