"""
What a judge between our host and a framework has to say: ``wsgiref.validate`` around Flask and
Django.
"""

from __future__ import annotations

import io
import json
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
from typing_extensions import override

from tests.hosting import logged
from tests.serve.wsgi.scene import serving
from tests.system.frameworks import django_app, flask_app

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stickyd.serve.wsgi.call import WsgiApplication

APPLICATIONS: dict[str, tuple[WsgiApplication, str]] = {
    "flask": (flask_app.app.wsgi_app, flask_app.__file__),
    "django": (django_app.wsgi, django_app.__file__),
}

FORM = b"name=J%C3%BCrgen&empty="
FORM_TYPE = "Content-Type: application/x-www-form-urlencoded"

#: More than is kept in memory, so that the application reads it from a file or while it comes.
LARGE = bytes(range(256)) * 8192


def chunked(body: bytes, size: int) -> bytes:
    """
    A body in chunks of a size, with the end.
    """
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class _Input(io.RawIOBase):
    """
    The judge's input, which wants a size each time: it does not know
    that PEP 3333 lets an application leave it out, as Werkzeug does.
    """

    def __init__(self, judged: Any) -> None:
        super().__init__()
        self._judged = judged

    @override
    def read(self, size: int = -1) -> bytes:
        data: bytes = self._judged.read(size)
        return data

    @override
    def readline(self, size: int | None = -1) -> bytes:
        data: bytes = self._judged.readline(-1 if size is None else size)
        return data


def judged(application: WsgiApplication) -> WsgiApplication:
    """
    Put the judge in front of an application.
    """

    def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return application({**environ, "wsgi.input": _Input(environ["wsgi.input"])}, start_response)

    judge: WsgiApplication = validator(call)
    return judge


class _Said:
    """
    What http.client takes for a socket.
    """

    def __init__(self, said: bytes) -> None:
        self._said = said

    def makefile(self, mode: str) -> io.BytesIO:
        """
        Give what was read from it.
        """
        return io.BytesIO(self._said)


def ask(name: str, method: str, path: str, *fields: str, body: bytes = b"") -> tuple[Any, bytes]:
    """
    Make a request over a real socket, with the judge in between.

    :param fields: whole lines.
    :return: the response, and its body.
    """
    application, _ = APPLICATIONS[name]
    said: list[bytes] = []
    with serving(judged(application)) as scene, logged() as events:

        async def go() -> None:
            client = scene.visit()
            lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *fields]
            await client.send("\r\n".join([*lines, "", ""]).encode() + body)
            said.append(await client.rest())

        scene.run(go)
    assert not [event for event in events if "log_failure" in event]
    response = HTTPResponse(_Said(said[0]), method=method)  # type: ignore[arg-type]  # enough of one
    response.begin()
    return response, response.read()


@pytest.fixture(autouse=True)
def _no_complaint(capsys: pytest.CaptureFixture[str]) -> Any:
    """
    An iterator that nobody closes is told of on standard error, when it is collected.
    """
    yield
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", APPLICATIONS)
def test_get(name: str) -> None:
    """
    A page, with a query that the application need not know.
    """
    response, body = ask(name, "GET", "/?a=b%20c&d")
    assert response.status == 200
    assert json.loads(body)["host"] == "127.0.0.1"


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.parametrize("path", ["/", "/pieces", "/file"])
def test_head(name: str, path: str) -> None:
    """
    The same without a body, whichever way the application makes one.
    """
    response, body = ask(name, "HEAD", path)
    assert (response.status, body) == (200, b"")


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.parametrize("coding", ["length", "chunks", "bytes"])
def test_form(name: str, coding: str) -> None:
    """
    A form, whole or in chunks.
    """
    if coding == "length":
        fields, body = [f"Content-Length: {len(FORM)}"], FORM
    else:
        fields, body = ["Transfer-Encoding: chunked"], chunked(FORM, 1 if coding == "bytes" else 64)
    response, answer = ask(name, "POST", "/form", FORM_TYPE, *fields, body=body)
    assert (response.status, json.loads(answer)) == (200, {"name": "Jürgen", "empty": ""})


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.parametrize("way", ["length", "chunks"])
def test_upload(name: str, way: str) -> None:
    """
    A large body comes back as it went.
    """
    if way == "length":
        fields, body = f"Content-Length: {len(LARGE)}", LARGE
    else:
        fields, body = "Transfer-Encoding: chunked", chunked(LARGE, 50_000)
    response, answer = ask(name, "POST", "/body", fields, body=body)
    assert response.status == 200
    assert answer == LARGE


@pytest.mark.parametrize("name", APPLICATIONS)
def test_streaming(name: str) -> None:
    """
    A response in pieces, one of which is empty.
    """
    response, body = ask(name, "GET", "/pieces")
    assert (response.status, body) == (200, b"one two three")


@pytest.mark.parametrize("name", APPLICATIONS)
def test_file(name: str) -> None:
    """
    A file, through ``wsgi.file_wrapper`` where the framework uses it.
    """
    response, body = ask(name, "GET", "/file")
    assert response.status == 200
    assert body == Path(APPLICATIONS[name][1]).read_bytes()


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_what_there_is_not(name: str, method: str) -> None:
    """
    Other methods, and a path that the framework answers with an error of its own.
    """
    response, body = ask(name, method, "/nowhere", *(["Content-Length: 0"][: method == "POST"]))
    assert response.status == 404
    assert body
