"""
Request heads: from bytes to a method, a target and fields, or to a refusal.

The request line is small and regular, so it is checked here; the field block is
llhttp's, which refuses whatever RFC 9112 calls invalid (bare CR and LF, obs-fold, white
space before the colon, control bytes, repeated or listed ``Content-Length``, both
framings at once).  Each block gets a parser of its own: no state outlives a head, and
the fixed request line in front of it lets every method token through, which llhttp's
own list of methods would not.

What llhttp leaves to its caller is checked here too: codings other than ``chunked``,
``Transfer-Encoding`` in HTTP/1.0, and ``Host``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from stickyd.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.serve.http.limits import HTTPLimits

HTTP_1_0 = b"HTTP/1.0"
HTTP_1_1 = b"HTTP/1.1"

CHUNKED = -1
"""The length of a body that says itself where it ends."""

#: How many field blocks are remembered, and how many heads, and how large each may be: about
#: 2 MB at most.
REMEMBERED_BLOCKS = 256
REMEMBERED_BYTES = 1024

_KNOWN_METHODS = frozenset(
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND"]
)
_CHECKED_FIELDS = frozenset(
    [b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"]
)

_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
is_token = re.compile(_TCHAR + rb"+").fullmatch
is_target = re.compile(rb"[\x21-\x7e]+").fullmatch
_is_version = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch
# RFC 3986 section 3.2.2 and 3.2.3, without userinfo; empty as RFC 9112 section 3.2 has it.
is_host = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*(?::[0-9]*)?"
    rb"|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?"
    rb"|\[[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+\](?::[0-9]*)?"
).fullmatch
_absolute = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE).match
# No white space apart from the value: a bare CR behind much of it would have it divided in all
# ways that there are, for hours.
_codings = re.compile(rb"\r\ntransfer-encoding:([^\r\n]*)\r\n", re.IGNORECASE).findall

# llhttp's own start for every block; see above.
_START = b"GET / HTTP/1.1\r\n"


class RequestError(ClientError):
    """
    A request that cannot be served, with the status that says why.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class FieldBlock:
    """
    The fields of a head, and what they say about the connection.  Never changed once
    made: a connection that sends the same bytes again gets the same block again.

    :ivar raw: the bytes, from the first field to the empty line.
    :ivar version: the HTTP version that they came with.
    :ivar pairs: pairs of lower-case name and value.
    :ivar length: of the body, or :data:`CHUNKED`.
    :ivar close: whether the client said ``Connection: close``.
    :ivar expects: whether it waits for ``100 Continue``.
    :ivar offers: the protocols, in lower case, that it would rather speak from then on (RFC
        9110, 7.8).  An offer that is not taken changes nothing.
    """

    __slots__ = (
        "_codings",
        "_hosts",
        "_offering",
        "_upgrades",
        "close",
        "expects",
        "length",
        "offers",
        "pairs",
        "raw",
        "version",
    )

    def __init__(self, raw: bytes, version: bytes, limits: HTTPLimits) -> None:
        """
        Parse and check a block.

        :raise RequestError: if it is not what RFC 9112 allows.
        """
        self.raw = raw
        self.version = version
        self.pairs: list[tuple[bytes, bytes]] = []
        self.length = 0
        self.close = False
        self.expects = False
        self.offers: tuple[bytes, ...] = ()
        self._hosts: list[bytes] = []
        self._codings: list[bytes] = []
        self._upgrades: list[bytes] = []
        self._offering = False
        try:
            HttpRequestParser(self).feed_data(_START + raw)
        except HttpParserUpgrade:
            pass  # an offer to speak another protocol: as good as any other field
        except HttpParserError as error:
            raise _refusal(raw, error) from error
        self._check(limits)

    def on_header(self, name: bytes, value: bytes) -> None:
        """
        Called by llhttp for each field; it has removed the leading white space only.
        """
        name = name.lower()
        value = value.rstrip(b" \t")
        self.pairs.append((name, value))
        if name in _CHECKED_FIELDS:
            if name == b"host":
                self._hosts.append(value)
            elif name == b"content-length":
                self.length = int(value)
            elif name == b"transfer-encoding":
                self._codings.append(value)
            elif name == b"connection":
                tokens = _tokens(value)
                if b"close" in tokens:
                    self.close = True
                if b"upgrade" in tokens:
                    self._offering = True
            elif name == b"upgrade":
                self._upgrades += _tokens(value)
            elif value.lower() == b"100-continue":
                self.expects = True

    def _check(self, limits: HTTPLimits) -> None:
        if len(self.pairs) > limits.head_fields:
            raise RequestError(431, "too many fields")
        hosts = self._hosts
        if len(hosts) != 1:
            if hosts:
                raise RequestError(400, "more than one Host")
            if self.version is HTTP_1_1 and limits.host_required:
                raise RequestError(400, "no Host")
        elif not is_host(hosts[0]):
            raise RequestError(400, "invalid Host")
        if self._codings:
            if self.version is HTTP_1_0:
                raise RequestError(400, "Transfer-Encoding in HTTP/1.0")
            if len(self._codings) > 1 or self._codings[0].lower() != b"chunked":
                raise RequestError(501, "unknown transfer coding")
            self.length = CHUNKED
        if self._offering and self.version is HTTP_1_1:
            # RFC 9110, 7.8: without the option in Connection it is no offer, and in
            # HTTP/1.0 it is to be ignored.
            self.offers = tuple(self._upgrades)

    def with_host(self, authority: bytes) -> FieldBlock:
        """
        Make a copy whose ``Host`` is the authority of an absolute target, which counts
        more than the field (RFC 9112 section 3.2.2).
        """
        pairs = [(b"host", authority)]
        return self.with_pairs(pairs + [pair for pair in self.pairs if pair[0] != b"host"])

    def with_pairs(self, pairs: list[tuple[bytes, bytes]]) -> FieldBlock:
        """
        Make a copy with other fields, which say the same about the connection.
        """
        block: FieldBlock = FieldBlock.__new__(FieldBlock)
        block.raw = self.raw
        block.version = self.version
        block.pairs = pairs
        block.length = self.length
        block.close = self.close
        block.expects = self.expects
        block.offers = self.offers
        return block


class FieldBlocks:
    """
    Remembers how field blocks were parsed: a client that comes on a new connection for each
    request sends the same bytes as before.

    :ivar limits: the bounds of requests.
    :ivar first_heads: the whole heads that connections have begun with, and what they say: request
        line and fields.
    """

    def __init__(self, limits: HTTPLimits) -> None:
        self.limits = limits
        self.first_heads: dict[bytes, tuple[tuple[bytes, bytes, bytes], FieldBlock]] = {}
        self._blocks: dict[bytes, FieldBlock] = {}
        self._notice: Callable[[], object] | None = None

    def call_for_forwarded(self, notice: Callable[[], object]) -> None:
        """
        Have ``notice`` called once, as soon as a head says for whom it was forwarded.
        """
        self._notice = notice

    def parse(self, raw: bytes, version: bytes) -> FieldBlock:
        """
        Parse the fields of a head, unless the same bytes were parsed before.

        :raises RequestError: if they are not what RFC 9112 allows.
        """
        blocks = self._blocks
        block = blocks.get(raw)
        if block is None or block.version is not version:
            block = FieldBlock(raw, version, self.limits)
            if self._notice is not None and b"orwarded" in raw:
                self._look(block)
            if len(raw) <= REMEMBERED_BYTES:
                if len(blocks) >= REMEMBERED_BLOCKS:
                    blocks.clear()
                blocks[raw] = block
        return block

    def remember_first(
        self, head: bytes, line: tuple[bytes, bytes, bytes], block: FieldBlock
    ) -> None:
        """
        Note that a connection has begun with a head, and what that says.

        :param head: no more than :data:`REMEMBERED_BYTES` long.
        """
        if len(self.first_heads) >= REMEMBERED_BLOCKS:
            self.first_heads.clear()
        self.first_heads[head] = (line, block)

    def _look(self, block: FieldBlock) -> None:
        names = {name for name, _ in block.pairs}
        if self._notice is not None and names & {b"x-forwarded-for", b"forwarded"}:
            notice, self._notice = self._notice, None
            notice()


def _tokens(value: bytes) -> list[bytes]:
    """
    Take a list of tokens apart (RFC 9110, 5.6.1), in lower case.
    """
    return [token.strip(b" \t") for token in value.lower().split(b",")]


def parse_request_line(line: bytes, limits: HTTPLimits) -> tuple[bytes, bytes, bytes]:
    """
    Take a request line apart.

    :return: the method, the target, and :data:`HTTP_1_0` or :data:`HTTP_1_1` itself.
    :raise RequestError: if it is malformed, too long, or of another version.
    """
    try:
        method, target, version = line.split(b" ")
    except ValueError:
        raise RequestError(400, "malformed request line") from None
    if version == HTTP_1_1:
        version = HTTP_1_1
    elif version == HTTP_1_0:
        version = HTTP_1_0
    elif _is_version(version):
        raise RequestError(505, "unknown HTTP version")
    else:
        raise RequestError(400, "malformed HTTP version")
    if method not in _KNOWN_METHODS:
        if not is_token(method):
            raise RequestError(400, "malformed method")
        if method == b"CONNECT":
            # A client that takes the answer for a tunnel's speaks no HTTP behind it any more.
            raise RequestError(501, "CONNECT is for proxies")
    if len(target) > limits.target_bytes:
        raise RequestError(414, "target too long")
    if not is_target(target):
        raise RequestError(400, "malformed target")
    return method, target, version


def resolve(method: bytes, target: bytes, fields: FieldBlock) -> tuple[bytes, FieldBlock]:
    """
    Give a target that does not begin with a slash as one in origin form (or ``*``), and the
    fields with its authority, which counts more than their ``Host``.

    :raise RequestError: if its form is unknown, or not for this method.
    """
    target, authority = resolve_target(method, target)
    return target, fields if authority is None else fields.with_host(authority)


def resolve_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """
    Find what a target that does not begin with a slash asks for.

    :return: the target in origin form (or ``*``), and the authority if it names one.
    :raise RequestError: if its form is unknown, or not for this method.
    """
    if target == b"*":
        return target, None  # the request answers 405 itself unless it is OPTIONS
    match = _absolute(target)
    if match is None:
        raise RequestError(400, "unknown form of target")
    authority, rest = match.groups()
    if not authority or authority[:1] == b":" or not is_host(authority):
        raise RequestError(400, "invalid authority in target")
    if not rest and method == b"OPTIONS":
        return b"*", authority  # RFC 9112 section 3.2.4
    return (rest if rest[:1] == b"/" else b"/" + rest), authority


def _refusal(raw: bytes, error: HttpParserError) -> RequestError:
    """
    Choose the status for a block that llhttp refuses.
    """
    codings = _codings(b"\r\n" + raw)
    if len(codings) == 1 and str(error) == "Request has invalid `Transfer-Encoding`":
        tokens = [token.strip(b" \t").lower() for token in codings[0].split(b",")]
        if b"chunked" not in tokens and all(is_token(token) for token in tokens):
            # RFC 9112 section 6.1: a coding that we do not understand.
            return RequestError(501, "unknown transfer coding")
    return RequestError(400, str(error))
