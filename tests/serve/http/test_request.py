"""
Tests of the request: that it does what twisted.web's does, and no more than asked.
"""

from __future__ import annotations

import os
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, StringTransport
from twisted.logger import globalLogPublisher
from twisted.web import server
from twisted.web.http import CACHED
from twisted.web.http_headers import InvalidHeaderName
from twisted.web.iweb import _IRequestEncoder, _IRequestEncoderFactory
from twisted.web.resource import EncodingResourceWrapper, Resource
from twisted.web.server import NOT_DONE_YET, GzipEncoderFactory
from zope.interface import implementer

from stickyd.serve.http import Request
from tests.http_wire import GET, Answer, Wire, bodies, echo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def logged() -> Iterator[EventLoggingObserver]:
    """
    Collect what is logged.
    """
    observer = EventLoggingObserver()
    globalLogPublisher.addObserver(observer)
    yield observer
    globalLogPublisher.removeObserver(observer)


def _plain(request: Any) -> bytes:
    return b"plain"


def _empty(request: Any) -> bytes:
    return b""


def _headers(request: Any) -> bytes:
    request.setHeader("X-Str", "v\u00e4lue")
    request.setHeader(b"x-bytes", b"value")
    request.setHeader(b"x-bytes", b"other")
    request.setHeader(b"content-type", b"text/plain")
    request.responseHeaders.addRawHeader(b"x-more", b"1")
    request.responseHeaders.addRawHeader(b"x-more", b"2")
    request.setHeader(b"x-late", b"3")
    return b"headers"


def _splitting(request: Any) -> bytes:
    request.setHeader(b"x-evil", b"a\r\nSet-Cookie: b\nc")
    request.setHeader("x-str", "a\r\nb")
    request.responseHeaders.addRawHeader(b"x-more", b"a\r\nb")
    return b"splitting"


def _splitting_at_first(request: Any) -> bytes:
    request.setHeader(b"x-evil", b"a\r\nSet-Cookie: b\nc")
    request.setHeader(b"x-return", b"a\rb")
    return b"splitting"


def _own_length(request: Any) -> int:
    request.setHeader(b"content-length", b"5")
    request.write(b"he")
    request.write(b"llo")
    request.finish()
    return NOT_DONE_YET


def _zero_length(request: Any) -> int:
    request.setHeader(b"content-length", b"0")
    request.finish()
    return NOT_DONE_YET


def _wrong_length(request: Any) -> bytes:
    request.setHeader(b"content-length", b"999")
    return b"right"


def _streamed(request: Any) -> int:
    request.write(b"")
    request.write(b"a" * 20)
    request.write(b"b")
    request.finish()
    return NOT_DONE_YET


def _only_finish(request: Any) -> int:
    request.finish()
    return NOT_DONE_YET


def _half_and_bytes(request: Any) -> bytes:
    request.setHeader(b"x", b"y")
    request.write(b"half")
    return b"rest"


def _codes(request: Any) -> bytes:
    request.setResponseCode(int(request.args[b"code"][0]))
    return b"" if request.args[b"code"][0] in (b"204", b"304") else b"coded"


def _body_for_no_content(request: Any) -> bytes:
    request.setResponseCode(204)
    return b"none of it"


def _message(request: Any) -> bytes:
    request.setResponseCode(299, b"My Way")
    return b""


def _redirect(request: Any) -> bytes:
    request.redirect(b"/there")
    return b"go"


def _cookies(request: Any) -> bytes:
    request.addCookie(b"a", b"1", path=b"/", httpOnly=True)
    request.addCookie("b", "2;x")
    return b"%b %b" % (request.getCookie(b"x"), request.received_cookies.get(b"y"))


def _conditions(request: Any) -> bytes:
    if request.setLastModified(86400 * 9000) is CACHED:
        return b""
    if request.setETag(b'"tag"') is CACHED:
        return b""
    return b"fresh"


def _only_tag(request: Any) -> bytes:
    request.setETag(b'"tag"')
    return b"tagged"


def _only_modified(request: Any) -> bytes:
    request.setLastModified(86400 * 9000)
    return b"modified"


def _own_server(request: Any) -> bytes:
    request.setHeader(b"server", b"mine")
    request.responseHeaders.removeHeader(b"date")
    return b"server"


def _no_type(request: Any) -> bytes:
    request.defaultContentType = None
    return b"untyped"


def _unicode(request: Any) -> Any:
    return "not bytes"


def _fails(request: Any) -> bytes:
    raise ZeroDivisionError("secret")


def _where(request: Any) -> bytes:
    request.setHost(b"set.example", 81)
    return b" ".join(
        [
            request.getRequestHostname(),
            request.prePathURL(),
            bytes(str(request.URLPath()), "ascii"),
            request.childLink(b"c"),
            request.sibLink(b"s"),
            b"%d" % request.isSecure(),
        ]
    )


def _credentials(request: Any) -> bytes:
    return b"%b:%b" % (request.getUser(), request.getPassword())


def _arguments(request: Any) -> bytes:
    return repr(sorted(request.args.items())).encode()


def _paths(request: Any) -> bytes:
    return repr((request.path, request.uri, request.prepath, request.postpath)).encode()


def _seen(request: Any) -> bytes:
    return repr(
        (
            request.getHeader(b"X-Two"),
            request.getHeader("x-two"),
            request.getHeader(b"x-none"),
            request.requestHeaders.getRawHeaders(b"x-two"),
            request.getAllHeaders(),
            request.getHeader(b"x-two"),
        )
    ).encode()


class _OnlyGet(Resource):
    isLeaf = True

    def render_GET(self, request: Any) -> bytes:  # noqa: N802 - Twisted's name
        request.setHeader(b"x-method", request.method)
        return b"got"


class _HeadToo(_OnlyGet):
    def render_HEAD(self, request: Any) -> bytes:  # noqa: N802 - Twisted's name
        request.setHeader(b"content-length", b"77")
        return b""


def _tree() -> Resource:
    root = Resource()
    child = Resource()
    root.putChild(b"a b", child)
    child.putChild(b"leaf", Answer(_paths))
    return root


def _gzip() -> Resource:
    return EncodingResourceWrapper(Answer(lambda request: b"z" * 1000), [GzipEncoderFactory()])


@implementer(_IRequestEncoderFactory, _IRequestEncoder)
class _Doubling:
    """
    An encoder that touches no fields.
    """

    def encoderForRequest(self, request: Any) -> _Doubling:  # noqa: N802 - Twisted's name
        return self

    def encode(self, data: bytes) -> bytes:
        return data * 2

    def finish(self) -> bytes:
        return b"end"


def _doubled() -> Resource:
    return EncodingResourceWrapper(Answer(_streamed), [_Doubling()])


def _doubled_at_once() -> Resource:
    return EncodingResourceWrapper(Answer(_plain), [_Doubling()])


def _request(line: bytes = b"GET /", *fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: a.example", *fields, b"", body])


_FORM = b"a=1&b=%20x&a=2"
_MULTIPART = b'--q\r\nContent-Disposition: form-data; name="f"\r\n\r\nv\r\n--q--\r\n'

ALIKE: list[tuple[Callable[[], Any], bytes]] = [
    *[
        (lambda answer=answer: Answer(answer), _request())
        for answer in (
            *(
                _plain,
                _empty,
                _headers,
                _splitting,
                _splitting_at_first,
                _only_tag,
                _own_length,
                _zero_length,
                _wrong_length,
            ),
            *(_streamed, _only_finish, _half_and_bytes, _body_for_no_content, _message),
            *(_redirect, _own_server, _no_type, _unicode, _fails, _where, _credentials),
            *(_arguments, _paths, _seen, _conditions, _only_modified, echo),
        )
    ],
    *[
        (lambda answer=answer: Answer(answer), _request(b"HEAD /"))
        for answer in (_plain, _headers, _own_length, _streamed, _only_finish)
    ],
    *[
        (lambda: Answer(_codes), _request(b"GET /?code=%d" % code))
        for code in (200, 201, 204, 304, 404, 418, 500, 999)
    ],
    (lambda: Answer(_cookies), _request(b"GET /", b'Cookie: x=1; y="2=3";z', b"Cookie: w=4")),
    (lambda: Answer(_conditions), _request(b"GET /", b'If-None-Match: "no" "tag"')),
    (lambda: Answer(_conditions), _request(b"PUT /", b'If-None-Match: "tag"')),
    (
        lambda: Answer(_conditions),
        _request(b"GET /", b"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),
    ),
    (lambda: Answer(_credentials), _request(b"GET /", b"Authorization: Basic dTpwOnE=")),
    (lambda: Answer(_credentials), _request(b"GET /", b"Authorization: Basic ???")),
    (lambda: Answer(_arguments), _request(b"GET /?x=1&y=&z&x=%41+b;q=3")),
    (lambda: Answer(_paths), _request(b"GET /a//b%2fc/%zz/?d?e")),
    (lambda: Answer(_seen), _request(b"GET /", b"X-Two: 1", b"x-tWO: 2\t ", b"X-Hi: \xff")),
    (
        lambda: Answer(_arguments),
        _request(
            b"POST /?a=0",
            b"Content-Type: application/x-www-form-urlencoded",
            b"Content-Length: %d" % len(_FORM),
            body=_FORM,
        ),
    ),
    (
        lambda: Answer(_arguments),
        _request(
            b"PUT /?a=0",
            b"Content-Type: application/x-www-form-urlencoded",
            b"Content-Length: %d" % len(_FORM),
            body=_FORM,
        ),
    ),
    (
        lambda: Answer(_arguments),
        _request(
            b"POST /",
            b"Content-Type: multipart/form-data; boundary=q",
            b"Content-Length: %d" % len(_MULTIPART),
            body=_MULTIPART,
        ),
    ),
    (
        lambda: Answer(echo),
        _request(
            b"POST /",
            b"Content-Type: application/x-www-form-urlencoded",
            b"Transfer-Encoding: chunked",
            body=b"3\r\na=b\r\n0\r\n\r\n",
        ),
    ),
    (lambda: Answer(echo), _request(b"POST /", b"Content-Length: 4", body=b"abcd")),
    (_tree, _request(b"GET /a%20b/leaf/x")),
    (_tree, _request(b"GET /nothing")),
    (_gzip, _request(b"GET /", b"Accept-Encoding: gzip")),
    (_gzip, _request(b"GET /")),
    (_doubled, _request(b"GET /")),
    (_doubled_at_once, _request(b"GET /")),
    (_OnlyGet, _request(b"HEAD /")),
    (_OnlyGet, _request(b"POST /")),
    (_OnlyGet, _request(b"BREW /")),
    (_HeadToo, _request(b"HEAD /")),
    (_HeadToo, _request(b"GET /")),
]


class _Addressed(StringTransport):
    def write(self, data: bytes) -> None:
        if self.disconnecting:
            return
        super().write(data)


def _stock(root: Any, request: bytes) -> Any:
    site = server.Site(root, reactor=Clock())
    channel = site.buildProtocol(None)
    transport = _Addressed()
    channel.makeConnection(transport)
    channel.dataReceived(request)
    return transport.value()


def _ours(root: Any, request: bytes) -> Any:
    transport = _Addressed()
    wire = Wire(root, transport=transport)
    wire.channel.context.server = server.version
    wire.feed(request)
    return transport.value()


def _alike(output: bytes) -> tuple[bytes, list[bytes], bytes]:
    head, _, body = output.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    dated = [b"Date: now" if field.startswith(b"Date: ") else field for field in fields]
    return status, sorted(dated), body


@pytest.mark.parametrize(("make_root", "request_bytes"), ALIKE)
def test_like_twisted(make_root: Callable[[], Any], request_bytes: bytes) -> None:
    """
    A resource gets the same request, and the client the same response, as with
    twisted.web's own channel and request, but for the order of the fields.
    """
    root = make_root()
    expected = _alike(_stock(root, request_bytes))
    assert _alike(_ours(root, request_bytes)) == expected


def test_nothing_is_made_unasked() -> None:
    """
    A plain request and response make no headers, cookies, arguments, content or Deferred.
    """
    requests = []

    def answer(request: Any) -> bytes:
        request.getHeader(b"host")
        request.setHeader(b"x", b"y")
        requests.append(request)
        return b""

    wire = Wire(answer)
    wire.feed(GET)
    made = vars(requests[0])
    for name in (
        *("requestHeaders", "responseHeaders", "received_cookies", "cookies", "args"),
        *("content", "notifications", "client", "host", "transport"),
    ):
        assert name not in made


def test_reason_cannot_split_the_response() -> None:
    """
    Line ends in a reason phrase become spaces, with simple heads and others.
    """

    def answer(request: Any) -> bytes:
        request.setResponseCode(200, b"a\r\nX: y")
        if request.path == b"/full":
            request.responseHeaders.addRawHeader(b"a", b"b")
        return b""

    wire = Wire(answer)
    for target in (b"/", b"/full"):
        wire.feed(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wire.output().startswith(b"HTTP/1.1 200 a X: y\r\nServer: ")


def test_field_names_are_checked() -> None:
    """
    A response field whose name is no token is refused as twisted.web refuses it.
    """
    errors = []

    def answer(request: Any) -> bytes:
        for name in (b"a b", "a\r\nb", b""):
            with pytest.raises(InvalidHeaderName) as caught:
                request.setHeader(name, b"x")
            errors.append(caught)
        return b""

    Wire(answer).feed(GET)
    assert len(errors) == 3


def test_late_failure_is_not_a_whole_response(logged: EventLoggingObserver) -> None:
    """
    An application that fails after it began to write gets no proper end: the connection
    is aborted, so that the client does not take half for the whole.
    """

    def answer(request: Any) -> bytes:
        request.write(b"half")
        raise ZeroDivisionError

    wire = Wire(answer)
    wire.feed(GET)
    assert b"0\r\n\r\n" not in wire.output()
    assert wire.transport.disconnected
    assert any("log_failure" in event for event in logged)


def test_failure_after_finish_is_only_logged(logged: EventLoggingObserver) -> None:
    """
    An application that fails after it finished does no harm to the connection.
    """

    def answer(request: Any) -> bytes:
        request.finish()
        raise ZeroDivisionError

    wire = Wire(answer)
    wire.feed(GET + GET)
    assert wire.output().count(b"HTTP/1.1 200 OK") == 2
    assert not wire.closing
    assert sum("log_failure" in event for event in logged) == 2


def test_failure_tells_no_details(logged: EventLoggingObserver) -> None:
    """
    An exception becomes a 500 that says nothing about it, and is logged.
    """
    wire = Wire(_fails)
    wire.feed(GET)
    [(status, body)] = bodies(wire.output())
    assert status == 500
    assert b"secret" not in body
    assert b"ZeroDivision" not in body
    [event] = [event for event in logged if "log_failure" in event]
    assert "secret" in str(event["log_failure"].value)


def test_large_upload_is_on_disk() -> None:
    """
    The body of a large upload is a file, and closed when the request is done.
    """
    files = []

    def answer(request: Any) -> bytes:
        files.append(request.content)
        assert not isinstance(request.content, BytesIO)
        assert os.fstat(request.content.fileno()).st_size == 300000
        assert request.content.read() == b"x" * 300000
        return b"x"

    wire = Wire(answer)
    wire.feed(_request(b"PUT /", b"Content-Length: 300000"))
    for _ in range(100):
        wire.feed(b"x" * 3000)
    assert bodies(wire.output()) == [(200, b"x")]
    assert files[0].closed


def test_upload_is_closed_when_the_connection_is_lost() -> None:
    """
    The file of an upload that never became whole is closed with the connection.
    """
    wire = Wire()
    wire.feed(_request(b"PUT /", b"Content-Length: 300000", body=b"abc"))
    content = wire.channel.requests[0].content
    wire.lose()
    assert content.closed


def test_site_may_choose_the_content_file() -> None:
    """
    A site's ``getContentFile`` is asked for the file of a body, as by twisted.web.
    """
    lengths = []

    def get_content_file(length: int) -> BytesIO:
        lengths.append(length)
        return BytesIO()

    wire = Wire()
    wire.site.getContentFile = get_content_file  # type: ignore[attr-defined]  # twisted.web's hook
    wire.feed(_request(b"PUT /", b"Content-Length: 3", body=b"abc"))
    assert bodies(wire.output()) == [(200, b"PUT / abc")]
    assert lengths == [3]


def test_session() -> None:
    """
    A session is found again by its cookie, and expires by the site's clock.
    """

    def answer(request: Any) -> bytes:
        session = request.getSession()
        session.hits = getattr(session, "hits", 0) + 1
        return b"%d" % session.hits

    wire = Wire(answer)
    wire.feed(GET)
    output = wire.output()
    cookie = output.partition(b"Set-Cookie: ")[2].partition(b";")[0]
    assert cookie.startswith(b"TWISTED_SESSION=")
    again = _request(b"GET /", b"Cookie: " + cookie)
    wire.feed(again)
    output = wire.output()
    assert bodies(output) == [(200, b"2")]
    assert b"Set-Cookie" not in output
    wire.clock.advance(901)
    assert wire.site.sessions == {}


def test_information_outlives_the_request() -> None:
    """
    Addresses and headers can still be asked for when the request is done or lost.
    """
    requests: list[Any] = []

    def answer(request: Any) -> int:
        requests.append(request)
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(GET)
    requests[0].finish()
    wire.feed(GET)
    wire.lose()
    for request in requests:
        assert request.getClientAddress() == wire.transport.getPeer()
        assert request.getHost() == wire.transport.getHost()
        assert request.getAllHeaders() == {b"host": b"a"}
        assert request.responseHeaders.hasHeader(b"date")
        assert not request.isSecure()


def test_notify_finish() -> None:
    """
    The Deferreds of ``notifyFinish`` fire when the response is done.
    """
    fired: list[object] = []

    def answer(request: Any) -> bytes:
        request.notifyFinish().addCallback(fired.append)
        request.notifyFinish().addCallback(fired.append)
        assert not fired
        return b""

    Wire(answer).feed(GET)
    assert fired == [None, None]


def test_overridden_write_and_finish_are_called() -> None:
    """
    A subclass's or an instance's own write() and finish() see what resources return.
    """
    seen: list[object] = []

    class Spy(Request):
        def write(self, data: bytes) -> None:
            seen.append(data)
            super().write(data)

        def finish(self) -> None:
            seen.append("finish")
            super().finish()

    wire = Wire(_plain)
    wire.channel.requestFactory = Spy
    wire.feed(GET)
    assert seen == [b"plain", "finish"]

    def answer(request: Any) -> bytes:
        real = request.finish

        def finish() -> None:
            seen.append("patched")
            real()

        request.finish = finish
        return b""

    Wire(answer).feed(GET)
    assert seen[2:] == ["patched"]


def test_unregistered_producer_is_logged(logged: EventLoggingObserver) -> None:
    """
    A producer that is still registered when the request is finished is dropped and logged.
    """

    class Producer:
        def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
            """Produce nothing."""

    def answer(request: Any) -> int:
        request.registerProducer(Producer(), True)
        request.finish()
        return NOT_DONE_YET

    wire = Wire(answer)
    wire.feed(GET)
    assert not wire.closing
    assert any("log_failure" in event for event in logged)


def test_only_bytes_are_written() -> None:
    """
    Writing text is an error for the application, at the place where it does it.
    """
    errors = []

    def answer(request: Any) -> bytes:
        for target in (b"content-length", b"x"):
            request.setHeader(target, b"1")
            with pytest.raises(TypeError) as caught:
                request.write("text")
            errors.append(caught)
        request.write(bytearray(b"y"))
        return b""

    Wire(answer).feed(GET)
    assert len(errors) == 2


def test_state_to_copy() -> None:
    """
    A request can be copied to another process, with what had not been asked for yet.
    """

    def answer(request: Any) -> bytes:
        state = request.getStateToCopyFor(None)
        assert state["requestHeaders"] == [(b"Host", [b"a"])]
        assert state["content_data"] == b""
        assert not [name for name in state if name.startswith("_block")]
        return b""

    wire = Wire(answer)
    wire.feed(GET)
    assert bodies(wire.output()) == [(200, b"")]


class _Page(Resource):
    def render_GET(self, request: Any) -> bytes:  # noqa: N802 - Twisted's name
        return b"page"

    render_POST = render_GET  # noqa: N815 - Twisted's name


class _Own(_Page):
    def render_OPTIONS(self, request: Any) -> bytes:  # noqa: N802 - Twisted's name
        request.setHeader(b"Allow", b"PURGE")
        return b"own"


def _pages() -> Resource:
    root = Resource()
    root.putChild(b"page", _Page())
    root.putChild(b"own", _Own())
    return root


@pytest.mark.filterwarnings("ignore:.*_UnsafeNoResource:DeprecationWarning")
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"*", (200, b"", None)),
        (b"/", (200, b"", b"OPTIONS")),
        (b"/page", (200, b"", b"GET, HEAD, OPTIONS, POST")),
        (b"/own", (200, b"own", b"PURGE")),
    ],
)
def test_fault_42_options(
    version: bytes, target: bytes, expected: tuple[int, bytes, bytes | None]
) -> None:
    """
    Fault 42: OPTIONS, with which HAProxy looks whether a server is there, is answered, with
    the methods that there are; a resource's own answer goes before.
    """
    wire = Wire(_pages())
    wire.feed(b"OPTIONS %b HTTP/%b\r\nHost: a\r\n\r\n" % (target, version))
    head, _, body = wire.output().partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert (int(head.split()[1]), body, fields.get(b"Allow")) == expected
    assert b"Transfer-Encoding" not in fields


@pytest.mark.filterwarnings("ignore:.*_UnsafeNoResource:DeprecationWarning")
def test_fault_42_options_of_what_is_not_there() -> None:
    """
    Fault 42: what is not there has no options either; and without Host, as HAProxy asks.
    """
    wire = Wire(_pages())
    wire.feed(b"OPTIONS / HTTP/1.0\r\n\r\n")
    assert wire.output().startswith(b"HTTP/1.0 200 ")
    wire = Wire(_pages())
    wire.feed(b"OPTIONS /nothing HTTP/1.0\r\n\r\n")
    assert wire.output().startswith(b"HTTP/1.0 404 ")
