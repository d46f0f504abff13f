"""
Flask's session, with our interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flask
import pytest

from stickyd.errors import SessionConflict, StoreAway
from stickyd.flask import SessionInterface
from stickyd.sessions.apps.desk import session_desk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def desk() -> Iterator[None]:
    """
    Have the store that was opened closed.
    """
    yield
    session_desk.close()


def an_app(**views: Callable[[], Any]) -> flask.Flask:
    """
    Make an application.
    """
    app = flask.Flask(__name__)
    app.session_interface = SessionInterface()
    for name, view in views.items():
        app.add_url_rule(f"/{name}", name, lambda view=view: flask.jsonify(view()))
    return app


def count() -> int:
    """
    Count hits.
    """
    flask.session["hits"] = flask.session.get("hits", 0) + 1
    return int(flask.session["hits"])


def look() -> dict[str, Any]:
    """
    Show all.
    """
    return dict(flask.session)


def test_counts_and_flags() -> None:
    """
    The session is there for the next request, and says whether it is new, was used and was
    changed, inside of values too.
    """

    def flags() -> list[bool]:
        session = flask.session
        told = [session.new, session.accessed, session.modified]
        session.setdefault("list", []).append(1)
        return [*told, session.modified]

    app = an_app(count=count, look=look, flags=flags, nothing=lambda: "nothing")
    client = app.test_client()
    assert client.get("/flags").json == [True, True, False, True]
    assert client.get("/flags").json == [False, True, False, True]
    assert [client.get("/count").json for _ in range(2)] == [1, 2]
    answer = client.get("/look")
    assert answer.json == {"hits": 2, "list": [1, 1]}
    assert answer.headers.getlist("Vary") == ["Cookie"]
    assert "Set-Cookie" not in answer.headers
    assert "Vary" not in client.get("/nothing").headers
    with client.session_transaction() as session:
        session["hits"] = 40
    assert client.get("/count").json == 41


def test_permanent_and_cleared() -> None:
    """
    A permanent session's cookie outlives the browser, and is renewed; a cleared one's goes.
    """

    def stay() -> str:
        flask.session.permanent = True
        return "ok"

    def clear() -> str:
        flask.session.clear()
        return "ok"

    app = an_app(stay=stay, look=look, clear=clear)
    app.config.update(SESSION_COOKIE_SAMESITE="Strict", SESSION_COOKIE_PATH="/")
    client = app.test_client()
    (line,) = client.get("/stay").headers.getlist("Set-Cookie")
    assert "Expires=" in line
    assert "SameSite=Strict" in line
    assert "HttpOnly" in line
    assert client.get("/look").headers.getlist("Set-Cookie")
    (line,) = client.get("/clear").headers.getlist("Set-Cookie")
    assert "Max-Age=0" in line
    assert client.get("/look").json == {}


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("handled", [False, True])
def test_conflict(within: bool, handled: bool) -> None:
    """
    What cannot be saved as another request has changed it is a 409 for Flask, for which the
    application may have a page of its own.
    """

    def meanwhile() -> str:
        hits = flask.session["hits"]
        assert (
            app.test_client(use_cookies=False)
            .get("/count", headers=[("Cookie", cookie)])
            .status_code
            == 200
        )
        flask.session["hits"] = hits + 1
        if within:
            flask.session.save()  # type: ignore[attr-defined]  # it is one of ours
        return "saved"

    app = an_app(count=count, meanwhile=meanwhile, look=look)
    if handled:
        app.register_error_handler(
            409, lambda problem: (f"sorry, {isinstance(problem, SessionConflict)}", 303)
        )
    cookie = app.test_client().get("/count").headers["Set-Cookie"].partition(";")[0]
    answer = app.test_client(use_cookies=False).get("/meanwhile", headers=[("Cookie", cookie)])
    if handled:
        assert (answer.status_code, answer.text) == (303, "sorry, True")
    else:
        assert answer.status_code == 409
        assert "Another request has changed this session" in answer.text
    look_again = app.test_client(use_cookies=False).get("/look", headers=[("Cookie", cookie)])
    assert look_again.json == {"hits": 2}


def test_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A view that asks for a session that cannot be had is answered with 503.
    """
    app = an_app(count=count, look=look, nothing=lambda: "nothing")
    client = app.test_client()
    client.get("/count")

    def away(*arguments: Any) -> Any:
        raise StoreAway("no answer", 7)

    monkeypatch.setattr(session_desk.place(), "wait", away)
    answer = client.get("/look")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert client.get("/nothing").status_code == 200
