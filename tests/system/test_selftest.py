"""
``python -m stickyd selftest``: whether clients stay, and who loses them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from stickyd import selftest
from stickyd.errors import OperatorError, SettingError
from tests.system.server import ROOT

if TYPE_CHECKING:
    from tests.system.conftest import Start

SIGNATURE = "x" * 43


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler, int], dict[str, str]]) -> Iterator[str]:
    """
    A server of another kind, or a hop: ``answer`` is given each request and its number, and
    gives the fields of the response.

    :return: its URL.
    """
    count = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            nonlocal count
            count += 1
            self.send_response(200)
            for name, value in answer(self, count).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_clients_that_stay(start: Start) -> None:
    """
    Those of a server with a cookie stay with their workers; a person reads that, and a script
    the exit code.
    """
    server = start("--resource", "tests.system.apps:site", "--affinity", "cookie:stickyd")
    done = subprocess.run(
        [sys.executable, "-m", "stickyd", "selftest", f"http://127.0.0.1:{server.port}/mirror"],
        capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 clients, 49 requests; answered by: TwistedWeb" in done.stdout
    assert "every client stayed with its worker; seen: slot 0, slot 1" in done.stdout


def _token(slot: int) -> dict[str, str]:
    return {"Set-Cookie": f"s={slot}.abc.{SIGNATURE}; Path=/"}


@pytest.mark.parametrize(
    ("answer", "by", "says"),
    [
        (lambda hop, n: {}, "", "no answer sets a cookie: a hop takes Set-Cookie away"),
        (lambda hop, n: {"Set-Cookie": "a=b"}, "", "there are cookies, and none is stickyd's"),
        (lambda hop, n: _token(n % 2), "", "a hop takes Cookie out of the requests"),
        (
            lambda hop, n: _token(n % 2) if n % 7 == 0 or "Cookie" not in hop.headers else {},
            *("", "changed their worker now and then"),
        ),
        (lambda hop, n: {**_token(0), "Age": "7"}, "", "answers come from a cache (Age)"),
        (lambda hop, n: {"X-Worker": str(n % 2)}, "X-Worker", "changed their worker now and then"),
        (lambda hop, n: {}, "X-Worker", "no answer has the field X-Worker"),
    ],
)
def test_clients_that_are_lost(
    answer: Callable[[BaseHTTPRequestHandler, int], dict[str, str]], by: str, says: str
) -> None:
    """
    What is told names the hop.
    """
    with answering(answer) as url:
        stayed, told = selftest.run(url, 3, by)
    assert not stayed
    assert f"lost: {says}" in told or says in told


def test_clients_told_by_a_field() -> None:
    """
    Where the application tells its worker no cookie is needed; a hop that closes is named.
    """
    with answering(lambda hop, n: {"X-Worker": "7", "Connection": "close"}) as url:
        stayed, told = selftest.run(url, 2, "x-worker")
    assert stayed
    assert "every client stayed with its worker; seen: 7" in told
    assert "each answer closed its connection" in told


@pytest.mark.parametrize(
    "url", ["example.org", "ftp://a/", "http:///", "http://a:b/", "http://a/ü"]
)
def test_what_is_no_url(url: str) -> None:
    """
    One line says what to write.
    """
    with pytest.raises(SettingError, match="write"):
        selftest.run(url)


def test_nobody_there() -> None:
    """
    What cannot be tried is no verdict.
    """
    with answering(lambda hop, n: {}) as url:
        pass
    with pytest.raises(OperatorError, match="does not answer"):
        selftest.run(url)
