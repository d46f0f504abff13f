"""
Tests of the session engine for Django; ``test_django.py`` runs them.
"""
# mypy: disable-error-code="import-untyped,no-any-unimported,misc"
# (Django has no annotations of its own.)
# ruff: noqa: PT009, PT027 -- unittest's, as Django's own

from __future__ import annotations

import asyncio
import sys
import unittest
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.http import JsonResponse
from django.test import AsyncClient, Client
from django.urls import path

from stickyd.django import SessionStore
from stickyd.errors import NotCarriable, SessionConflict, StoreAway
from stickyd.sessions.apps.desk import session_desk

if TYPE_CHECKING:
    from django.http import HttpRequest

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the tests",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["stickyd.django.SessionMiddleware"],
    SESSION_ENGINE="stickyd.django",
)
django.setup()


def _count(request: HttpRequest) -> JsonResponse:
    request.session["hits"] = request.session.get("hits", 0) + 1
    return _look(request)


async def _acount(request: HttpRequest) -> JsonResponse:
    await request.session.aset("hits", await request.session.aget("hits", 0) + 1)
    return JsonResponse({"hits": await request.session.aget("hits")})


def _look(request: HttpRequest) -> JsonResponse:
    return JsonResponse(dict(request.session.items()))


def _inside(request: HttpRequest) -> JsonResponse:
    request.session.setdefault("list", []).append(1)
    return _look(request)


def _login(request: HttpRequest) -> JsonResponse:
    request.session["user"] = "ada"
    request.session.cycle_key()
    return _look(request)


def _meanwhile(request: HttpRequest) -> JsonResponse:
    hits = request.session["hits"]
    other = Client()
    other.cookies = request.COOKIES and _cookies(request.COOKIES)
    assert other.get("/count").status_code == 200
    request.session["hits"] = hits + 1
    return _look(request)


def _away(request: HttpRequest) -> JsonResponse:
    raise StoreAway("no answer", 7)


def _cookies(found: dict[str, str]) -> Any:
    client = Client()
    for name, value in found.items():
        client.cookies[name] = value
    return client.cookies


urlpatterns = [
    path("count", _count),
    path("acount", _acount),
    path("look", _look),
    path("inside", _inside),
    path("login", _login),
    path("meanwhile", _meanwhile),
    path("away", _away),
]


class Engine(unittest.TestCase):
    """
    The engine by itself.
    """

    def test_saves_and_loads(self) -> None:
        """
        What one saves another one loads, with the types that it had.
        """
        store = SessionStore()
        self.assertEqual((store.accessed, store.modified), (False, False))
        store["data"] = {"bytes": b"\xff", "pair": (1, 2.5), "none": None}
        store.save()
        again = SessionStore(store.session_key)
        self.assertEqual(again["data"], {"bytes": b"\xff", "pair": (1, 2.5), "none": None})
        self.assertTrue(again.exists(again.session_key))

    def test_changes_inside_count(self) -> None:
        """
        A list that is changed makes the session modified.
        """
        store = SessionStore()
        store["list"] = []
        store.save()
        again = SessionStore(store.session_key)
        self.assertFalse(again.modified)
        again["list"].append(1)
        self.assertTrue(again.modified)
        again.save()
        self.assertEqual(SessionStore(store.session_key)["list"], [1])

    def test_nothing_is_resurrected(self) -> None:
        """
        Saving a session that has ended raises Django's error; making one of a key that there is
        raises the other.
        """
        store = SessionStore()
        store["a"] = 1
        store.save()
        late = SessionStore(store.session_key)
        late["b"] = 2
        with self.assertRaises(CreateError):
            late.save(must_create=True)
        SessionStore(store.session_key).delete()
        for attempt in (late, SessionStore(store.session_key)):
            attempt["c"] = 3
            if attempt.session_key is not None:
                with self.assertRaises(UpdateError):
                    attempt.save()
        self.assertFalse(late.exists(late.session_key))

    def test_merges_or_refuses(self) -> None:
        """
        Different keys of two requests are both kept; the same key is a conflict.
        """
        store = SessionStore()
        store["n"] = 1
        store.save()
        one, other = SessionStore(store.session_key), SessionStore(store.session_key)
        one["a"], other["b"] = 1, 2
        one.save()
        other.save()
        self.assertEqual(dict(SessionStore(store.session_key).items()), {"n": 1, "a": 1, "b": 2})
        one, other = SessionStore(store.session_key), SessionStore(store.session_key)
        one["n"] += 1
        other["n"] += 1
        one.save()
        with self.assertRaises(SessionConflict):
            other.save()

    def test_unknown_and_damaged_keys(self) -> None:
        """
        A key of which there is no session is never taken for that of a new one.
        """
        for key in ("0" * 32, "../../etc/passwd", "schlüssel" * 4, "x" * 200):
            store = SessionStore(key)
            self.assertEqual(dict(store.items()), {})
            store["a"] = 1
            store.save()
            self.assertNotEqual(store.session_key, key)
            self.assertFalse(store.exists(key))

    def test_what_cannot_be_kept(self) -> None:
        """
        Data that is not plain is the application's error.
        """
        store = SessionStore()
        store["a"] = 1
        store.save()
        again = SessionStore(store.session_key)
        with self.assertRaises(NotCarriable):
            again["b"] = object()
            again.save()

    def test_async_methods(self) -> None:
        """
        The methods whose names begin with ``a`` do the same.
        """

        async def story() -> None:
            store = SessionStore()
            await store.aset("a", 1)
            await store.asave()
            key = store.session_key
            again = SessionStore(key)
            self.assertEqual(await again.aget("a"), 1)
            await again.acycle_key()
            self.assertNotEqual(again.session_key, key)
            self.assertTrue(await again.aexists(again.session_key))
            self.assertFalse(await again.aexists(key))
            await again.aflush()
            self.assertIsNone(again.session_key)
            await SessionStore.aclear_expired()

        asyncio.run(story())


class Middleware(unittest.TestCase):
    """
    The engine below the middleware.
    """

    def test_counts(self) -> None:
        """
        Views and asynchronous views share the session.
        """
        client = Client()
        self.assertEqual(client.get("/count").json(), {"hits": 1})
        self.assertEqual(client.get("/acount").json(), {"hits": 2})
        self.assertEqual(client.get("/inside").json(), {"hits": 2, "list": [1]})
        self.assertEqual(client.get("/look").json(), {"hits": 2, "list": [1]})
        self.assertEqual(Client().get("/look").json(), {})

    def test_counts_asynchronously(self) -> None:
        """
        So they do under ASGI.
        """

        async def story() -> None:
            client = AsyncClient()
            self.assertEqual((await client.get("/acount")).json(), {"hits": 1})
            self.assertEqual((await client.get("/count")).json(), {"hits": 2})

        asyncio.run(story())

    def test_login_under_parallel_requests(self) -> None:
        """
        A request with the key that the session had before finds it, and gets no cookie.
        """
        client, former = Client(), Client()
        client.get("/count")
        former.cookies = _cookies({name: m.value for name, m in client.cookies.items()})
        client.get("/login")
        answer = former.get("/count")
        self.assertEqual(answer.json(), {"hits": 2, "user": "ada"})
        self.assertFalse(answer.cookies)
        self.assertEqual(client.get("/look").json(), {"hits": 2, "user": "ada"})

    def test_conflict(self) -> None:
        """
        A conflict is a 409, and changes nothing.
        """
        client = Client()
        client.get("/count")
        answer = client.get("/meanwhile")
        self.assertEqual(answer.status_code, 409)
        self.assertIn("Another request", answer.content.decode())
        self.assertEqual(client.get("/look").json(), {"hits": 2})

    def test_store_that_is_away(self) -> None:
        """
        A store that is away is a 503.
        """
        answer = Client().get("/away")
        self.assertEqual((answer.status_code, answer["Retry-After"]), (503, "7"))


if __name__ == "__main__":
    program = unittest.main(exit=False)
    session_desk.close()
    sys.exit(not program.result.wasSuccessful())
