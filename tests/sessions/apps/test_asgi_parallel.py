"""
Requests of one session at the same time, in one worker and in two that share a store.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from stickyd.errors import (
    SessionConflict,
)
from stickyd.sessions.apps.asgi_middleware import with_sessions
from stickyd.sessions.apps.attributes import app_cookie
from stickyd.sessions.record import EndReason
from tests.hosting import run
from tests.sessions.apps.asgi_client import Answer, Browser
from tests.sessions.apps.asgi_views import answering, count, ignore, look, serving
from tests.sessions.apps.workers import alone, two_workers

if TYPE_CHECKING:
    from stickyd.sessions.apps.asgi_session import AsgiSession
    from stickyd.sessions.apps.worker_place import WorkerPlace
    from tests.sessions.apps.asgi_views import View


def test_new_id_at_login(loop: asyncio.AbstractEventLoop) -> None:
    """
    With a new id the data stays, and requests under way with the old one are not logged out.
    """
    place = alone()

    async def login(session: AsgiSession) -> str | None:
        session["user"] = "ada"
        session.regenerate()
        return session.id

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(place, count))
        former = Browser(cookies=dict(browser.cookies))
        assert (await browser.get(serving(place, login))).body.decode() == json.dumps(
            former.cookies[b"session"].decode()
        )
        assert browser.cookies != former.cookies
        answer = await former.get(serving(place, count))
        # It may be somebody who has planted the id: he is not told the new one.
        assert (answer.body, answer.values(b"set-cookie")) == (b"2", [])
        assert json.loads((await browser.get(serving(place, look))).body) == {
            "hits": 2,
            "user": "ada",
        }

    run(loop, story())


def test_eight_requests_over_a_new_id(loop: asyncio.AbstractEventLoop) -> None:
    """
    Of eight requests at the same time, one of which gives the session a new id, none gets
    another session than its client's, in two workers that share a store.
    """
    first, second = two_workers()

    async def login(session: AsgiSession) -> str:
        session["user"] = "ada"
        session.regenerate()
        return "welcome"

    async def note(session: AsgiSession) -> str:
        session[f"seen {id(session)}"] = True
        return str(session["name"])

    async def named(session: AsgiSession) -> str:
        session["name"] = "Ada"
        return "welcome"

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(first, named))
        views: list[Any] = [serving(first, login)]
        views += [serving(place, note) for place in (first, second) * 4][:7]
        answers = await asyncio.gather(
            *(Browser(cookies=dict(browser.cookies)).get(view) for view in views)
        )
        for answer in answers:
            browser.keep(answer)
        assert {answer.status for answer in answers} <= {200, 409}
        (final,) = {
            (await Browser(cookies=dict(browser.cookies)).get(serving(place, look))).body
            for place in (first, second)
        }
        assert b'"name": "Ada"' in final
        kept = len(json.loads(final)) - 1 - (b"user" in final)
        assert kept == sum(answer.body == b'"Ada"' for answer in answers)

    run(loop, story())


def test_different_keys_of_two_workers_are_merged(loop: asyncio.AbstractEventLoop) -> None:
    """
    Requests of one session in two workers that change different keys are both saved.
    """
    first, second = two_workers()
    together = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else None

    def setting(key: str) -> View:
        async def view(session: AsgiSession) -> str:
            if together is not None:
                await together.wait()
            session[key] = [1]
            return "set"

        return view

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(first, count))
        answers = await asyncio.gather(
            browser.get(serving(first, setting("a"))), browser.get(serving(second, setting("b")))
        )
        assert [answer.status for answer in answers] == [200, 200]
        for place in (first, second):
            answer = await browser.get(serving(place, look))
            assert json.loads(answer.body) == {"hits": 1, "a": [1], "b": [1]}

    run(loop, story())


async def clashing(place: WorkerPlace, other: WorkerPlace, view: View, app: Any) -> Answer:
    """
    Have a request do something while another one counts, and answer.
    """
    browser = Browser()
    await browser.get(serving(place, count))

    async def meanwhile(session: AsgiSession) -> Any:
        hits = session["hits"]
        assert (await browser.get(serving(other, count))).status == 200
        session["hits"] = hits + 1
        return await view(session)

    return await browser.get(app(meanwhile))


@pytest.mark.parametrize("workers", [1, 2])
def test_conflict_is_told(workers: int, loop: asyncio.AbstractEventLoop) -> None:
    """
    A request whose changes rest on what another has changed meanwhile is answered with 409,
    whatever the application says, and changes nothing.
    """

    async def story() -> None:
        place, other = (alone(),) * 2 if workers == 1 else two_workers()
        answer = await clashing(place, other, ignore, lambda view: serving(place, view))
        assert answer.status == 409
        assert answer.complete
        assert answer.body.startswith(b"Another request has changed this session meanwhile.")
        assert answer.values(b"set-cookie") == []

    run(loop, story())


def test_conflict_is_answered_by_an_override(loop: asyncio.AbstractEventLoop) -> None:
    """
    An application of one's own answers in the place of the 409.
    """
    place = alone()

    async def sorry(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 303, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    def overridden(view: View) -> Any:
        return with_sessions(answering(view), place, app_cookie(), sorry)

    async def story() -> None:
        answer = await clashing(place, place, ignore, overridden)
        assert (answer.status, answer.body, answer.complete) == (303, b"/", True)

    run(loop, story())


def test_transactions_lose_nothing(loop: asyncio.AbstractEventLoop) -> None:
    """
    Whatever is counted by transactions, in two workers at the same time, is all there at the
    end; the functions may be coroutines.
    """
    first, second = two_workers()

    def add(data: Any) -> int:
        data["n"] = data.get("n", 0) + 1
        return int(data["n"])

    async def slowly(data: Any) -> int:
        n = int(data.get("n", 0))
        await asyncio.sleep(0)
        data["n"] = n + 1
        return n + 1

    async def plain(session: AsgiSession) -> Any:
        n = await session.transact(add)
        assert session["n"] == n
        return n

    async def coroutine(session: AsgiSession) -> Any:
        return await session.transact(slowly)

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(first, plain))
        apps = [serving(place, view) for place in (first, second) for view in (plain, coroutine)]
        answers = await asyncio.gather(*(browser.get(app) for app in apps * 10))
        assert sorted(int(answer.body) for answer in answers) == list(range(2, 42))
        for place in (first, second):
            assert (await browser.get(serving(place, look))).body == b'{"n": 41}'

    run(loop, story())


def test_transaction_that_fails_changes_nothing(loop: asyncio.AbstractEventLoop) -> None:
    """
    What a function raises comes out, and nothing that it did is saved; one that others are
    always faster than ends with an error.
    """
    place = alone()

    def wrong(data: Any) -> None:
        data["n"] = 1
        raise ZeroDivisionError

    async def view(session: AsgiSession) -> str:
        with pytest.raises(ZeroDivisionError):
            await session.transact(wrong)
        return "ok"

    async def hopeless(session: AsgiSession) -> str:
        async def interrupted(data: Any) -> None:
            await browser.get(serving(place, count))
            data["hits"] = data["hits"] + 1

        with pytest.raises(SessionConflict, match="50 times"):
            await session.transact(interrupted)
        return "ok"

    browser = Browser()

    async def story() -> None:
        await browser.get(serving(place, count))
        assert (await browser.get(serving(place, view))).body == b'"ok"'
        assert (await browser.get(serving(place, look))).body == b'{"hits": 1}'
        # It has failed, and the application has not caught what matters: it is told.
        await browser.get(serving(place, hopeless))
        assert (await browser.get(serving(place, look))).body == b'{"hits": 51}'

    run(loop, story())


def test_ended_meanwhile(loop: asyncio.AbstractEventLoop) -> None:
    """
    Who is logged out by another request is not logged in again by a late write.
    """
    first, second = two_workers()

    async def flush(session: AsgiSession) -> str:
        session.flush()
        return "bye"

    async def story() -> None:
        browser = Browser()
        await browser.get(serving(first, count))
        cookies = dict(browser.cookies)

        async def late(session: AsgiSession) -> str:
            await browser.get(serving(second, flush))
            session["basket"] = [1]
            return "saved"

        answer = await Browser(cookies=dict(cookies)).get(serving(first, late))
        assert answer.status == 409
        for place in (first, second):
            assert (await Browser(cookies=dict(cookies)).get(serving(place, look))).body == b"{}"

    run(loop, story())


@pytest.mark.parametrize("workers", [1, 2])
def test_logout_ends_what_others_have_written(
    workers: int, loop: asyncio.AbstractEventLoop
) -> None:
    """
    A session that another request writes while this one logs out has ended all the same.
    """

    async def story() -> None:
        place, other = (alone(),) * 2 if workers == 1 else two_workers()
        browser = Browser()
        await browser.get(serving(place, count))
        cookies = dict(browser.cookies)

        async def logout(session: AsgiSession) -> str:
            await Browser(cookies=dict(cookies)).get(serving(other, count))
            (uid,) = cookies.values()
            # As a store tells of it, or a save that has failed for it.
            place.registry.gone(uid, EndReason.SUPERSEDED)
            session.flush()
            return "bye"

        assert (await browser.get(serving(place, logout))).status == 200
        for worker in (place, other):
            answer = await Browser(cookies=dict(cookies)).get(serving(worker, look))
            assert answer.body == b"{}"
        assert not place.registry.busy()

    run(loop, story())
