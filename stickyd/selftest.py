"""
``python -m stickyd selftest URL``: whether clients stay with their workers through whatever stands
in front of the server, and if not, which hop loses them.

Theory of operation.  Some clients, each with a cookie of its own, make requests in turn: several
on one connection, then each on a new one, as browsers do through a proxy that keeps connections or
does not.  The cookie of ``--affinity cookie:NAME`` names the slot of its client in the clear.  A
server whom a valid cookie reaches sets it no more; so one that sets it again has not got it, or
does not take it for its own, and whose slot changes then has lost its client.  For other
affinities the application can say in a response field which worker it is (``--by``).
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from stickyd.errors import OperatorError, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS: Final = 8
"""How many clients there are by default."""

MOST_CLIENTS: Final = 1000

KEPT: Final = 3
"""Requests of each on one connection, and as many on new ones."""

PATIENCE_SECONDS: Final = 10.0
"""How long an answer may take."""

MOST_BYTES: Final = 1 << 20
"""What is read of an answer at most; a connection with more to come is closed."""

#: The first token in the value of the sticky cookie: :mod:`stickyd.affinity.token`.
_TOKEN = re.compile(
    r"(\d{1,5})(?:-\d+-[0-9a-f]{8})?\.[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{43}(?:~|$)"
)


@dataclass
class Client:
    """
    One client.

    :ivar cookies: what it was given, by name.
    :ivar workers: what each answer said of the worker, in turn; empty where it said nothing.
    :ivar given: how often it was given the sticky cookie.
    :ivar closed: how many answers ended their connection that should go on.
    :ivar hops: what stands in the answers' ``Via`` and ``Server``.
    :ivar cached: whether an answer came from a cache.
    :ivar failures: requests without an answer, and why.
    """

    cookies: dict[str, str] = field(default_factory=dict)
    workers: list[str] = field(default_factory=list)
    given: int = 0
    closed: int = 0
    hops: set[str] = field(default_factory=set)
    cached: bool = False
    failures: list[str] = field(default_factory=list)

    @property
    def strayed(self) -> bool:
        """
        Whether different workers have answered it.
        """
        return len({worker for worker in self.workers if worker}) > 1


@dataclass(frozen=True)
class Target:
    """
    What is asked.

    :ivar by: the response field that names the worker; empty to go by the sticky cookie.
    """

    secure: bool
    host: str
    port: int
    path: str
    by: str

    @classmethod
    def of(cls, url: str, by: str) -> Target:
        """
        Read a URL.

        :raises SettingError: if it is none of HTTP.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as problem:
            raise SettingError(f"{url}: {problem}; write a URL as in http://example.org/") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingError(f"{url}: no URL of HTTP; write one as in http://example.org/")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii() or not path.isprintable() or " " in path:
            raise SettingError(f"{url}: write what is no printable ASCII as %XX")
        secure = parts.scheme == "https"
        return cls(secure, parts.hostname, port or (443 if secure else 80), path, by)

    def connect(self) -> HTTPConnection:
        """
        Make a connection, which is opened with the first request.
        """
        if not self.secure:
            return HTTPConnection(self.host, self.port, timeout=PATIENCE_SECONDS)
        # Certificates are another test's business, and a private name is usual behind a proxy.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return HTTPSConnection(self.host, self.port, timeout=PATIENCE_SECONDS, context=context)


def run(url: str, clients: int = CLIENTS, by: str = "") -> tuple[bool, str]:
    """
    Try a server.

    :param by: as :attr:`Target.by`.
    :return: whether all stayed, and what is to be told.
    :raises OperatorError: if it cannot be tried at all.
    """
    target = Target.of(url, by)
    everybody = [Client() for _ in range(clients)]
    _try_first(target, everybody[0])
    # In turn: whoever balances by turns spreads them so.
    kept = [target.connect() for _ in everybody]
    for _ in range(KEPT):
        for client, connection in zip(everybody, kept, strict=True):
            _try(target, client, connection)
    for connection in kept:
        connection.close()
    for _ in range(KEPT):
        for client in everybody:
            connection = target.connect()
            _try(target, client, connection)
            connection.close()
    return _judge(target, everybody)


def _try_first(target: Target, client: Client) -> None:
    try:
        connection = target.connect()
        try:
            _ask(target, client, connection)
        finally:
            connection.close()
    except (OSError, HTTPException) as problem:
        raise OperatorError(
            f"{target.host}:{target.port} does not answer: {_said(problem)}"
        ) from None


def _try(target: Target, client: Client, connection: HTTPConnection) -> None:
    try:
        _ask(target, client, connection)
    except (OSError, HTTPException) as problem:
        connection.close()
        client.failures.append(_said(problem))


def _said(problem: Exception) -> str:
    return str(problem) or type(problem).__name__


def _ask(target: Target, client: Client, connection: HTTPConnection) -> None:
    headers = {"User-Agent": "stickyd-selftest"}
    if client.cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    connection.request("GET", target.path, headers=headers)
    response = connection.getresponse()
    response.read(MOST_BYTES)
    if not response.isclosed():
        connection.close()
    client.closed += response.will_close
    _learn(target, client, response)


def _learn(target: Target, client: Client, response: HTTPResponse) -> None:
    worker = ""
    for name, value in _cookies(response):
        client.cookies[name] = value
        token = _TOKEN.match(value)
        if token is not None:
            client.given += 1
            worker = f"slot {token[1]}"
    if target.by:
        worker = response.headers.get(target.by, "").strip()
    elif not worker and client.workers:
        worker = client.workers[-1]  # its cookie was good
    client.workers.append(worker)
    for name in ("Via", "Server"):
        client.hops.update(response.headers.get_all(name, []))
    client.cached |= "Age" in response.headers


def _cookies(response: HTTPResponse) -> Iterator[tuple[str, str]]:
    for text in response.headers.get_all("Set-Cookie", []):
        try:
            yield from ((name, each.value) for name, each in SimpleCookie(text).items())
        except CookieError:
            continue  # it is another's


def _judge(target: Target, everybody: list[Client]) -> tuple[bool, str]:
    requests = sum(len(client.workers) + len(client.failures) for client in everybody)
    workers = sorted({worker for client in everybody for worker in client.workers if worker})
    hops = ", ".join(sorted({hop for client in everybody for hop in client.hops})) or "unnamed"
    lines = [f"{len(everybody)} clients, {requests} requests; answered by: {hops}"]
    strayed = [client for client in everybody if client.strayed]
    lost = [client for client in everybody if not target.by and client.given > 1]
    failures = [failure for client in everybody for failure in client.failures]
    problems = list(_problems(target, everybody, workers, strayed, lost))
    if failures:
        problems.append(f"{len(failures)} requests got no answer, the last one: {failures[-1]}")
    if sum(client.closed for client in everybody) >= requests and requests:
        lines.append("each answer closed its connection: the hop in front keeps none")
    lines += [f"lost: {problem}" for problem in problems]
    if not problems:
        lines.append(f"every client stayed with its worker; seen: {', '.join(workers)}")
    return not problems, "\n".join(lines)


def _problems(
    target: Target,
    everybody: list[Client],
    workers: list[str],
    strayed: list[Client],
    lost: list[Client],
) -> Iterator[str]:
    """
    Say what is wrong, and which hop does it.
    """
    if any(client.cached for client in everybody):
        yield (
            "answers come from a cache (Age): have it pass on what has a cookie, or try a URL that"
            " is not cached"
        )
    if not workers:
        if target.by:
            yield f"no answer has the field {target.by}: name one that the application sets"
        elif any(client.cookies for client in everybody):
            yield (
                "there are cookies, and none is stickyd's: write --affinity cookie:stickyd, or name"
                " a response field that tells the worker by --by"
            )
        else:
            yield (
                "no answer sets a cookie: a hop takes Set-Cookie away, or the server has no"
                " --affinity cookie:stickyd; with another affinity name a response field that"
                " tells the worker by --by"
            )
    elif lost and all(client.given == len(client.workers) for client in lost):
        yield (
            f"{len(lost)} of {len(everybody)} clients are given a cookie with each answer: a hop"
            " takes Cookie out of the requests; or several servers answer that do not share a"
            " --secret-file"
        )
    elif lost or strayed:
        yield (
            f"{len(strayed or lost)} of {len(everybody)} clients changed their worker now and then:"
            " several servers answer in turn that do not share a --secret-file or have no"
            " stickiness of their own in front, or workers died meanwhile"
        )
