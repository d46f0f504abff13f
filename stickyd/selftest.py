"""
``python -m stickyd selftest URL``: whether clients stay with their workers through whatever stands
in front of the server, and if not, which hop loses them.

Theory of operation.  Some clients, each with a cookie of its own, make requests in turn: several
on one connection, then each on a new one, as browsers do through a proxy that keeps connections or
does not.  The cookie of ``--affinity cookie:NAME`` names the slot of its client in the clear.  A
server whom a valid cookie reaches sets it no more; so one that sets it again has not got it, or
does not take it for its own, and whose slot changes then has lost its client.  For other
affinities the application can say in a response field which worker it is (``--by``).  On the
machine itself each client has an address of its own (127.0.0.0/8), so that one address in the place
of all is noticed; from elsewhere they have one.

A hop seldom says who it is.  So the same can be asked at each of several URLs, from the outermost
to the server itself: the last at which clients are lost is that of the hop that loses them.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import sys
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from http.cookies import CookieError, SimpleCookie
from socket import gaierror, getaddrinfo
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from stickyd.errors import OperatorError, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLIENTS: Final = 8
"""How many clients there are by default."""

MOST_CLIENTS: Final = 1000

KEPT: Final = 3
"""Requests of each on one connection, and as many on new ones."""

ENOUGH: Final = 6
"""So many clients are not on one of several workers by chance, or hardly ever."""

PATIENCE_SECONDS: Final = 10.0
"""How long an answer may take."""

MOST_BYTES: Final = 1 << 20
"""What is read of an answer at most; a connection with more to come is closed."""

#: The first token in the value of the sticky cookie: :mod:`stickyd.affinity.token`.
_TOKEN = re.compile(
    r"(\d{1,5})(?:-\d+-[0-9a-f]{8})?\.[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{43}(?:~|$)"
)


#: What a worker itself says in ``Server``; another word there is that of a hop.
_WORKERS_OWN = ("TwistedWeb", "uvicorn", "stickyd")

#: What takes cookies away where, and what has the client's address told.
_HIDES = "proxy_hide_header Set-Cookie in nginx, http-response del-header Set-Cookie in HAProxy"
_STRIPS = "proxy_set_header Cookie in nginx, http-request del-header Cookie in HAProxy"
_TELLS = (
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for in nginx, option forwardfor in"
    " HAProxy"
)


@dataclass
class Client:
    """
    One client.

    :ivar address: where it comes from; empty for whatever the system takes.
    :ivar cookies: what it was given, by name.
    :ivar workers: what each answer said of the worker, in turn; empty where it said nothing.
    :ivar given: how often it was given the sticky cookie.
    :ivar closed: how many answers ended their connection that should go on.
    :ivar hops: what stands in the answers' ``Via`` and ``Server``.
    :ivar cached: whether an answer came from a cache.
    :ivar failures: requests without an answer, and why.
    """

    address: str = ""
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

    @property
    def is_here(self) -> bool:
        """
        Whether it is this machine, which has as many addresses for clients as there are clients.
        """
        try:
            found = getaddrinfo(self.host, self.port)
        except (gaierror, UnicodeError):
            return False
        addresses = [ipaddress.ip_address(str(each[4][0])) for each in found]
        return sys.platform == "linux" and any(
            address.version == 4 and address.is_loopback for address in addresses
        )

    def connect(self, address: str = "") -> HTTPConnection:
        """
        Make a connection, which is opened with the first request.

        :param address: where it comes from.
        """
        source = (address, 0) if address else None
        if not self.secure:
            return HTTPConnection(
                self.host, self.port, timeout=PATIENCE_SECONDS, source_address=source
            )
        # Certificates are another test's business, and a private name is usual behind a proxy.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return HTTPSConnection(
            self.host,
            self.port,
            timeout=PATIENCE_SECONDS,
            source_address=source,
            context=context,
        )


def run(url: str, clients: int = CLIENTS, by: str = "") -> tuple[bool, str]:
    """
    Try a server.

    :param by: as :attr:`Target.by`.
    :return: whether all stayed, and what is to be told.
    :raises OperatorError: if it cannot be tried at all.
    """
    target = Target.of(url, by)
    sources = [f"127.0.{n // 250}.{n % 250 + 2}" for n in range(clients)]
    if not target.is_here:
        sources = [""] * clients
    everybody = [Client(source) for source in sources]
    _try_first(target, everybody[0])
    # In turn: whoever balances by turns spreads them so.
    kept = [target.connect(client.address) for client in everybody]
    for _ in range(KEPT):
        for client, connection in zip(everybody, kept, strict=True):
            _try(target, client, connection)
    for connection in kept:
        connection.close()
    for _ in range(KEPT):
        for client in everybody:
            connection = target.connect(client.address)
            _try(target, client, connection)
            connection.close()
    return _judge(target, everybody)


def _try_first(target: Target, client: Client) -> None:
    try:
        connection = target.connect(client.address)
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


def run_all(urls: Sequence[str], clients: int = CLIENTS, by: str = "") -> tuple[bool, str]:
    """
    Try a server by one URL, or by that of each hop, and say between which of them clients are lost.

    :param urls: the outermost first, the server's own last.
    :return: whether all stayed at the outermost, and what is to be told.
    :raises OperatorError: as of :func:`run`.
    """
    if len(urls) == 1:
        return run(urls[0], clients, by)
    tried = [run(url, clients, by) for url in urls]
    lines = [
        f"{url}\n  " + told.replace("\n", "\n  ")
        for url, (_, told) in zip(urls, tried, strict=True)
    ]
    bad = [place for place, (stayed, _) in enumerate(tried) if not stayed]
    if bad == list(range(len(bad))) and 0 < len(bad) < len(urls):
        lines.append(
            f"lost by the hop that answers at {urls[bad[-1]]}: behind it, at {urls[len(bad)]}, all"
            " is well"
        )
    elif len(bad) == len(urls):
        lines.append(f"lost by what answers at {urls[-1]}, or behind it")
    return not bad, "\n".join(lines)


def _hop(everybody: list[Client]) -> str:
    """
    What stands in front, as it calls itself.
    """
    named = {hop for client in everybody for hop in client.hops if not hop.startswith(_WORKERS_OWN)}
    return f"{', '.join(sorted(named))} or another hop" if named else "a hop"


def _of_one_worker(everybody: list[Client], worker: str) -> str:
    return (
        f"all {len(everybody)} clients, each with an address of its own, were answered by one"
        f" worker ({worker}): to the server {_hop(everybody)} is their only client. Have it tell"
        f" their address ({_TELLS}) and name its own by --trust; or tell them apart by --affinity"
        " cookie:stickyd. Of a server with one worker it means nothing"
    )


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
    if target.by and not problems and len(workers) == 1 and len(everybody) >= ENOUGH:
        if everybody[0].address:
            problems.append(_of_one_worker(everybody, workers[0]))
        else:
            lines.append(
                "one worker answered all, which is right where clients are told apart by address:"
                " these have one; ask from another machine too, and if that worker answers again,"
                f" have the hop in front tell the address ({_TELLS}) and name it by --trust"
            )
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
                f"no answer sets a cookie: {_hop(everybody)} takes Set-Cookie away (look for"
                f" {_HIDES}), or the server has no --affinity cookie:stickyd; with another affinity"
                " name a response field that tells the worker by --by"
            )
    elif lost and all(client.given == len(client.workers) for client in lost):
        yield (
            f"{len(lost)} of {len(everybody)} clients are given a cookie with each answer:"
            f" {_hop(everybody)} takes Cookie out of the requests (look for {_STRIPS}); or several"
            " servers answer that do not share a --secret-file"
        )
    elif lost or strayed:
        yield (
            f"{len(strayed or lost)} of {len(everybody)} clients changed their worker now and then:"
            " several servers answer in turn that do not share a --secret-file or have no"
            " stickiness of their own in front, or workers died meanwhile"
        )
