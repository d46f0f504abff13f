"""
``python -m stickyd selftest``: whether clients stay, and who loses them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from stickyd import selftest
from stickyd.errors import OperatorError, SettingError
from stickyd.selftest import run_all
from tests.system.proxies import haproxy_printed, nginx_printed
from tests.system.server import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start

SIGNATURE = "x" * 43

ECHO = ("--resource", "tests.system.frameworks.echoes:resource")


def url_of(target: tuple[str, int]) -> str:
    """
    Where that application answers.
    """
    return f"http://127.0.0.1:{target[1]}/?size=0&chunked=0"


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


_NGINX = """
server {{
    listen 443;
    location / {{
        proxy_pass http://127.0.0.1:3000;
        {more}
    }}
}}
"""

_HAPROXY = """
frontend public
    bind :443
    mode http
    default_backend sticky
backend sticky
    mode http
    {more}
    server sticky 127.0.0.1:3000
"""


def test_hops_that_lose_clients_are_named(start: Start, tmp_path: Path) -> None:
    """
    Behind HAProxy and nginx as they should be clients stay; one that takes cookies away, or hides
    its clients' addresses, is named, with what to write.
    """
    server = start(*ECHO, "--affinity", "cookie:stickyd")
    with ExitStack() as stack:

        def place(kind: str, more: str, target: tuple[str, int]) -> tuple[str, int]:
            directory = tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            block = (_NGINX if kind == "nginx" else _HAPROXY).format(more=more)
            printed = nginx_printed if kind == "nginx" else haproxy_printed
            return stack.enter_context(printed(directory, block, target)).target

        # As they should be, one in front of the other.
        inner = place("nginx", "", server.target)
        stayed, told = run_all([url_of(place("haproxy", "", inner))])
        assert stayed, told
        assert "answered by: nginx" in told
        assert "every client stayed with its worker; seen: slot 0, slot 1" in told
        # What stands there says who it is.
        hides = place("nginx", "proxy_hide_header Set-Cookie;", server.target)
        stayed, told = run_all([url_of(hides)])
        assert not stayed
        assert "no answer sets a cookie: nginx" in told
        assert "takes Set-Cookie away (look for proxy_hide_header Set-Cookie in nginx" in told
        # It does not: each hop is asked.
        strips = place("haproxy", "http-request del-header Cookie", inner)
        urls = [url_of(target) for target in (place("nginx", "", strips), strips, inner)]
        stayed, told = run_all(urls)
        assert not stayed
        assert "takes Cookie out of the requests" in told
        last = told.splitlines()[-1]
        assert last == (
            f"lost by the hop that answers at {urls[1]}: behind it, at {urls[2]}, all is well"
        )
        # A hop's address in the place of its clients'.
        plain = start(*ECHO, "--affinity", "ip")
        plain.allow("names nobody", "nobody is trusted")
        forwards = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
        hop = place("nginx", forwards, plain.target)
        stayed, told = run_all([url_of(hop), url_of(plain.target)], by="X-Slot")
        assert not stayed
        assert "each with an address of its own, were answered by one worker" in told
        assert "name its own by --trust" in told
        assert told.splitlines()[-1].startswith(f"lost by the hop that answers at {url_of(hop)}:")


def _token(slot: int) -> dict[str, str]:
    return {"Set-Cookie": f"s={slot}.abc.{SIGNATURE}; Path=/"}


@pytest.mark.parametrize(
    ("answer", "by", "says"),
    [
        (lambda hop, n: {}, "", "no answer sets a cookie: BaseHTTP"),
        (lambda hop, n: {"Set-Cookie": "a=b"}, "", "there are cookies, and none is stickyd's"),
        (
            lambda hop, n: _token(n % 2),
            "",
            "a cookie with each answer: BaseHTTP",
        ),
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


def test_clients_of_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    From elsewhere they have one, so one worker for all is nothing that is lost; but it is told of.
    """
    monkeypatch.setattr(selftest.Target, "is_here", False)
    with answering(lambda hop, n: {"X-Worker": "7"}) as url:
        stayed, told = selftest.run(url, 8, "x-worker")
    assert stayed
    assert "one worker answered all, which is right where clients are told apart by address" in told


def test_hops_that_all_lose_clients() -> None:
    """
    The server itself loses them then.
    """
    with answering(lambda hop, n: _token(n % 2)) as outer, answering(lambda hop, n: {}) as inner:
        stayed, told = run_all([outer, inner], 2)
    assert not stayed
    assert told.splitlines()[-1] == f"lost by what answers at {inner}, or behind it"


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
