"""
Each request is answered by this package as it is by twisted.web.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web import server
from twisted.web.http import CACHED
from twisted.web.iweb import _IRequestEncoder, _IRequestEncoderFactory
from twisted.web.resource import EncodingResourceWrapper, Resource
from twisted.web.server import NOT_DONE_YET, GzipEncoderFactory
from zope.interface import implementer

from tests.http_wire import Answer, Wire, echo
from tests.serve.http.pages import fails, plain, request_for

if TYPE_CHECKING:
    from collections.abc import Callable


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
    return EncodingResourceWrapper(Answer(plain), [_Doubling()])


_FORM = b"a=1&b=%20x&a=2"
_MULTIPART = b'--q\r\nContent-Disposition: form-data; name="f"\r\n\r\nv\r\n--q--\r\n'
ALIKE: list[tuple[Callable[[], Any], bytes]] = [
    *[
        (lambda answer=answer: Answer(answer), request_for())
        for answer in (
            *(
                plain,
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
            *(_redirect, _own_server, _no_type, _unicode, fails, _where, _credentials),
            *(_arguments, _paths, _seen, _conditions, _only_modified, echo),
        )
    ],
    *[
        (lambda answer=answer: Answer(answer), request_for(b"HEAD /"))
        for answer in (plain, _headers, _own_length, _streamed, _only_finish)
    ],
    *[
        (lambda: Answer(_codes), request_for(b"GET /?code=%d" % code))
        for code in (200, 201, 204, 304, 404, 418, 500, 999)
    ],
    (lambda: Answer(_cookies), request_for(b"GET /", b'Cookie: x=1; y="2=3";z', b"Cookie: w=4")),
    (lambda: Answer(_conditions), request_for(b"GET /", b'If-None-Match: "no" "tag"')),
    (lambda: Answer(_conditions), request_for(b"PUT /", b'If-None-Match: "tag"')),
    (
        lambda: Answer(_conditions),
        request_for(b"GET /", b"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),
    ),
    (lambda: Answer(_credentials), request_for(b"GET /", b"Authorization: Basic dTpwOnE=")),
    (lambda: Answer(_credentials), request_for(b"GET /", b"Authorization: Basic ???")),
    (lambda: Answer(_arguments), request_for(b"GET /?x=1&y=&z&x=%41+b;q=3")),
    (lambda: Answer(_paths), request_for(b"GET /a//b%2fc/%zz/?d?e")),
    (lambda: Answer(_seen), request_for(b"GET /", b"X-Two: 1", b"x-tWO: 2\t ", b"X-Hi: \xff")),
    (
        lambda: Answer(_arguments),
        request_for(
            b"POST /?a=0",
            b"Content-Type: application/x-www-form-urlencoded",
            b"Content-Length: %d" % len(_FORM),
            body=_FORM,
        ),
    ),
    (
        lambda: Answer(_arguments),
        request_for(
            b"PUT /?a=0",
            b"Content-Type: application/x-www-form-urlencoded",
            b"Content-Length: %d" % len(_FORM),
            body=_FORM,
        ),
    ),
    (
        lambda: Answer(_arguments),
        request_for(
            b"POST /",
            b"Content-Type: multipart/form-data; boundary=q",
            b"Content-Length: %d" % len(_MULTIPART),
            body=_MULTIPART,
        ),
    ),
    (
        lambda: Answer(echo),
        request_for(
            b"POST /",
            b"Content-Type: application/x-www-form-urlencoded",
            b"Transfer-Encoding: chunked",
            body=b"3\r\na=b\r\n0\r\n\r\n",
        ),
    ),
    (lambda: Answer(echo), request_for(b"POST /", b"Content-Length: 4", body=b"abcd")),
    (_tree, request_for(b"GET /a%20b/leaf/x")),
    (_tree, request_for(b"GET /nothing")),
    (_gzip, request_for(b"GET /", b"Accept-Encoding: gzip")),
    (_gzip, request_for(b"GET /")),
    (_doubled, request_for(b"GET /")),
    (_doubled_at_once, request_for(b"GET /")),
    (_OnlyGet, request_for(b"HEAD /")),
    (_OnlyGet, request_for(b"POST /")),
    (_OnlyGet, request_for(b"BREW /")),
    (_HeadToo, request_for(b"HEAD /")),
    (_HeadToo, request_for(b"GET /")),
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
