"""
Sessions of WSGI applications, in threads.
"""

from __future__ import annotations

import json
import threading
from io import BytesIO
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

import pytest

from stickyd.errors import NotCarriable, SessionConflict, StoreAway
from stickyd.sessions.apps.desk import session_desk
from stickyd.sessions.apps.own_place import OwnPlace
from stickyd.wsgi import SessionMiddleware, app_cookie

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stickyd.wsgi import WsgiSession

    View = Callable[[WsgiSession], Any]


@pytest.fixture(autouse=True)
def desk() -> Iterator[None]:
    """
    Have the store that was opened closed.
    """
    yield
    session_desk.close()


class Answer:
    """
    A response.
    """

    def __init__(self, application: Any, environ: dict[str, Any]) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        result = application(environ, self._begin)
        self.body = b"".join(result)
        self.result = result
        close = getattr(result, "close", None)
        if close is not None:
            close()

    def _begin(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        self.status, self.headers = status, list(headers)
        return lambda data: None

    def values(self, name: str) -> list[str]:
        """
        The values of a field.
        """
        return [value for key, value in self.headers if key.lower() == name]


class Browser:
    """
    Calls applications, and keeps their cookies.
    """

    def __init__(self, **cookies: str) -> None:
        self.cookies = cookies

    def get(self, application: Any, path: str = "/") -> Answer:
        """
        Make a request.
        """
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "wsgi.url_scheme": "http",
            "wsgi.file_wrapper": FileWrapper,
        }
        if self.cookies:
            environ["HTTP_COOKIE"] = "; ".join("=".join(pair) for pair in self.cookies.items())
        answer = Answer(application, environ)
        for line in answer.values("set-cookie"):
            name, _, value = line.split(";")[0].partition("=")
            self.cookies[name] = value
            if not value:
                del self.cookies[name]
        return answer


def serving(view: View, generator: bool = False, **options: Any) -> Any:
    """
    Make an application of a function that gets the session, and gives what to answer.
    """

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        body = json.dumps(view(environ["stickyd.session"])).encode()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body]

    def generating(environ: dict[str, Any], start_response: Any) -> Any:
        body = json.dumps(view(environ["stickyd.session"])).encode()
        start_response("200 OK", [])
        yield body
        environ["stickyd.session"]["late"] = True

    return SessionMiddleware(generating if generator else application, **options)


def count(session: WsgiSession) -> int:
    """
    Count hits.
    """
    session["hits"] = session.get("hits", 0) + 1
    return int(session["hits"])


def look(session: WsgiSession) -> Any:
    """
    Show all.
    """
    return dict(session)


def test_counts_for_each_client() -> None:
    """
    A session begins with its first change, and is there for the next request, of its own client
    only.
    """
    one, other = Browser(), Browser()
    assert one.get(serving(look)).values("set-cookie") == []
    assert [one.get(serving(count)).body for _ in range(3)] == [b"1", b"2", b"3"]
    assert other.get(serving(count)).body == b"1"
    answer = one.get(serving(look))
    assert (answer.body, answer.values("vary")) == (b'{"hits": 3}', ["Cookie"])
    assert answer.values("set-cookie") == []
    assert one.get(serving(lambda session: "nothing")).headers == [
        ("Content-Type", "application/json")
    ]
    (line,) = (
        Browser().get(serving(count, cookie=app_cookie("sid", max_age=60))).values("set-cookie")
    )
    assert line.startswith("sid=")
    assert line.endswith("; path=/; Max-Age=60; httponly; samesite=lax")


def test_results_stay_what_they_are() -> None:
    """
    A file goes on to the server as the application gave it; what a generator changes later is
    saved at its end.
    """
    browser = Browser()

    def download(environ: dict[str, Any], start_response: Any) -> Any:
        environ["stickyd.session"]["downloads"] = 1
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](BytesIO(b"data"))

    answer = browser.get(SessionMiddleware(download))
    assert isinstance(answer.result, FileWrapper)
    assert browser.get(serving(count, generator=True)).body == b"1"
    assert json.loads(browser.get(serving(look)).body) == {
        "downloads": 1,
        "hits": 1,
        "late": True,
    }


@pytest.mark.parametrize("generator", [False, True])
def test_conflict_is_told(generator: bool) -> None:
    """
    A request whose changes rest on what another has changed meanwhile is answered with 409, or
    as one likes, and changes nothing.
    """
    browser = Browser()
    browser.get(serving(count))

    def meanwhile(session: WsgiSession) -> str:
        hits = session["hits"]
        browser.get(serving(count))
        session["hits"] = hits + 1
        return "saved"

    answer = browser.get(serving(meanwhile, generator))
    assert answer.status == "409 Conflict"
    assert answer.body.startswith(b"Another request has changed this session meanwhile.")
    assert browser.get(serving(look)).body == b'{"hits": 2}'

    def sorry(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("303 See Other", [("Location", environ["PATH_INFO"])])
        return [b"again"]

    answer = browser.get(serving(meanwhile, generator, on_conflict=sorry), "/cart")
    assert (answer.status, answer.body) == ("303 See Other", b"again")


def test_threads_of_one_session_do_not_corrupt_it() -> None:
    """
    Of requests at the same time, those that transact are all counted, and those that change
    keys of their own are all kept.
    """
    browser = Browser()
    browser.get(serving(count))

    def add(data: Any) -> None:
        data["n"] = data.get("n", 0) + 1

    def both(session: WsgiSession) -> str:
        session.transact(add)
        session[threading.current_thread().name] = [1]
        return "ok"

    answers: list[Answer] = []

    def ask() -> None:
        answers.append(Browser(**browser.cookies).get(serving(both)))

    threads = [threading.Thread(target=ask, name=f"thread {n}") for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [answer.status for answer in answers] == ["200 OK"] * 16
    final = json.loads(browser.get(serving(look)).body)
    assert final.pop("n") == 16
    assert final == {"hits": 1, **{thread.name: [1] for thread in threads}}


def test_login_and_logout() -> None:
    """
    With a new id the data stays; an ended session is nobody's.
    """
    browser = Browser()
    browser.get(serving(count))
    former = dict(browser.cookies)
    browser.get(serving(lambda session: session.regenerate()))
    assert browser.cookies != former
    assert browser.get(serving(look)).body == b'{"hits": 1}'
    current = dict(browser.cookies)
    browser.get(serving(lambda session: session.flush()))
    assert not browser.cookies
    for cookies in (former, current):
        assert Browser(**cookies).get(serving(look)).body == b"{}"


def test_faults_of_the_application() -> None:
    """
    What cannot be kept is the application's own error, and changes nothing.
    """
    browser = Browser()
    browser.get(serving(count))

    def wrong(session: WsgiSession) -> None:
        session.setdefault("list", []).append(object())

    for view in (wrong, lambda session: session.update({1: 2})):
        with pytest.raises(NotCarriable):
            browser.get(serving(view))
    with pytest.raises(ZeroDivisionError):
        browser.get(serving(lambda session: session.update(hits=1 / 0)))
    assert browser.get(serving(look)).body == b'{"hits": 1}'


def test_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A request whose session cannot be loaded gets 503; one that does not ask for it is served,
    and nobody waits for the store.
    """
    browser = Browser()
    browser.get(serving(count))
    place = session_desk.place()
    assert isinstance(place, OwnPlace)
    asked = []

    def away(*arguments: Any) -> Any:
        asked.append(arguments)
        raise StoreAway("no answer", 7)

    monkeypatch.setattr(place, "wait", away)
    answer = browser.get(serving(look))
    assert (answer.status, answer.values("retry-after")) == ("503 Service Unavailable", ["7"])
    asked.clear()
    assert browser.get(serving(lambda session: "nothing")).status == "200 OK"
    assert Browser().get(serving(look)).body == b"{}"
    assert not asked


def test_transactions_that_fail() -> None:
    """
    One that others are always faster than ends with an error.
    """
    browser = Browser()
    browser.get(serving(count))
    failures = []

    def hopeless(session: WsgiSession) -> str:
        def interrupted(data: Any) -> None:
            browser.get(serving(count))
            data["hits"] += 1

        try:
            session.transact(interrupted)
        except SessionConflict as problem:
            failures.append(problem)
            raise
        return "ok"

    assert browser.get(serving(hopeless)).status == "409 Conflict"
    assert "50 times" in str(failures[0])
    assert browser.get(serving(look)).body == b'{"hits": 51}'
