"""
A site with sessions, its clock, and a browser with its cookies.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.resource import Resource
from zope.interface import Interface, alsoProvides, implementer

from stickyd.sessions.interfaces import ISessionData
from stickyd.sessions.record import SessionExpiry
from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.sessions.web.site import SessionSite

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.sessions.interfaces import ISessionStore

    Render = Callable[[Any], Any]


START = 1_700_000_000.0
COOKIE = b"TWISTED_SESSION"
SECURE_COOKIE = b"TWISTED_SECURE_SESSION"


class Page(Resource):
    """
    A page that a function renders.
    """

    isLeaf = True

    def __init__(self, render: Render) -> None:
        super().__init__()
        self.render_GET = render


class SecureTransport(StringTransport):
    """
    A transport that says it is TLS; of that twisted.web asks no more than this.
    """

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802 -- of the interface
        """
        There is no TCP below.
        """


@dataclass
class Response:
    """
    What came back.
    """

    code: int
    headers: dict[bytes, list[bytes]]
    body: bytes

    @property
    def cookies(self) -> dict[bytes, bytes]:
        """
        The values of the cookies that it sets.
        """
        pairs = [line.split(b";")[0].split(b"=", 1) for line in self.headers.get(b"set-cookie", [])]
        return {pair[0]: pair[1] for pair in pairs}


def parse(text: bytes) -> Response:
    """
    Read one response, whose body is all that follows.
    """
    head, _, body = text.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b": ")
        headers.setdefault(name.lower(), []).append(value)
    return Response(int(status.split()[1]), headers, body)


@dataclass
class Exchange:
    """
    A connection with one request.
    """

    channel: Any
    transport: StringTransport

    @property
    def response(self) -> Response:
        """
        What came back so far.
        """
        return parse(self.transport.value())

    def lose(self) -> None:
        """
        Have the client go away.
        """
        self.channel.connectionLost(Failure(ConnectionDone()))


@dataclass
class Web:
    """
    A site and its clock, and a browser's cookies.
    """

    render: Render
    options: dict[str, Any] = field(default_factory=dict)
    store_of: Callable[[Clock], ISessionStore] = MemorySessionStore
    site_class: type[SessionSite] = SessionSite
    request_class: type[server.Request] | None = None

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.store: Any = self.store_of(self.clock)
        self.registry = SessionRegistry(self.store, self.clock, expiry=SessionExpiry(idle=900))
        self.site = self.site_class(
            Page(self.render),
            self.request_class,
            reactor=self.clock,
            sessions=self.registry,
            **self.options,
        )
        self.cookies: dict[bytes, bytes] = {}

    def begin(self, secure: bool = False, method: bytes = b"GET") -> Exchange:
        """
        Send a request with the cookies.
        """
        transport = SecureTransport() if secure else StringTransport()
        if secure:
            alsoProvides(transport, ISSLTransport)
        channel = self.site.buildProtocol(None)
        channel.makeConnection(transport)
        cookies = b"; ".join(name + b"=" + value for name, value in self.cookies.items())
        channel.dataReceived(
            method
            + b" / HTTP/1.1\r\nHost: here\r\nConnection: close\r\nCookie: "
            + cookies
            + b"\r\n\r\n"
        )
        return Exchange(channel, transport)

    def get(self, secure: bool = False) -> Response:
        """
        Send a request, and keep the cookies that come back.
        """
        response = self.begin(secure).response
        self.cookies.update(response.cookies)
        return response

    @property
    def uid(self) -> bytes:
        """
        The id in the browser's cookie.
        """
        return self.cookies[COOKIE]


def count(request: server.Request) -> bytes:
    """
    A page that counts its visits.
    """
    data = request.getSession(ISessionData)
    data["hits"] = data.get("hits", 0) + 1
    return b"%d" % data["hits"]


def count_and_keep(requests: list[server.Request]) -> Render:
    """
    Make a page that counts, and leaves the answer to the test.
    """

    def render(request: server.Request) -> int:
        count(request)
        requests.append(request)
        return server.NOT_DONE_YET

    return render


class ICart(Interface):
    """
    What an application of twisted.web adapts sessions to.
    """


@implementer(ICart)
class Cart:
    """
    A cart that lives in the process.
    """

    def __init__(self, session: server.Session) -> None:
        self.session = session
        self.items = 0
