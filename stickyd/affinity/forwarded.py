"""
Who the client is behind trusted HTTP proxies: ``X-Forwarded-For`` and ``Forwarded``.

Each proxy appends on the right what it saw, so only the right end can be believed: the
walk goes from right to left for as long as the speaker is trusted.  What stands left of
the first untrusted or malformed element is the client's own text and is never looked at;
this is why the elements are cut off at the right end and not parsed from the left, where
one stray quote of the client's would swallow the proxies' elements.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from stickyd.affinity.address import MEMO, presented

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stickyd.affinity.trust import Networks

MOST_HOPS = 64
"""
How many elements of a chain are looked at; a longer one is a client's invention.
"""

_MOST_COMMAS = 8  # in the quoted strings of one element; bounds the work on hostile text

_LONGEST_KNOWN = 64  # the longest address has 45 characters; bounds what is remembered

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = rf'({_WORD})=(?:({_WORD})|"((?:[^"\\]|\\.)*)")'
_PAIRS = re.compile(_PAIR, re.DOTALL)
# White space may follow a semicolon but not precede it: if both were allowed, there would
# be as many ways to match as there are blanks, and hostile text would try them all.
_ELEMENT = re.compile(rf"(?:{_PAIR})?(?:;[ \t]*(?:{_PAIR})?)*", re.DOTALL)
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class Origin(NamedTuple):
    """
    What the trusted proxies say of a request.

    :ivar client: the client's address as :func:`stickyd.affinity.address.presented`
        gives it, or None if they do not say, or are not trusted.
    :ivar proto: the scheme, in lower case, that the client spoke to the proxy that named it,
        the farthest that is trusted; or None.  Of a list without the addresses that belong to
        it, the last element counts.
    :ivar conflict: the request has both kinds of header, and they differ.  A proxy that
        sets one kind lets the client's own header of the other kind pass, and nothing
        tells which is which; so neither counts for what they differ in.
    """

    client: str | None = None
    proto: str | None = None
    conflict: bool = False


_SILENT = Origin()
_NAMES = (b"x-forwarded-for", b"x-forwarded-proto", b"forwarded")


def origin_of(peer: str, headers: Iterable[tuple[bytes, bytes]], trust: Networks) -> Origin:
    """
    Work out who sent a request.

    :param peer: the host that the connection comes from.
    :param headers: the request's headers in order, the names in lower case.
    :param trust: whose word counts.
    """
    if peer not in trust:
        return _SILENT
    said = [pair for pair in headers if pair[0] in _NAMES]
    if len(said) == 1 and said[0][0] == b"x-forwarded-for":
        # As nearly all proxies say it.
        client, _ = _walk(map(_address_of, _split([said[0][1].decode("latin-1")])), trust)
        return Origin(client)
    addresses, schemes, forwarded = (
        [value.decode("latin-1") for name, value in said if name == wanted] for wanted in _NAMES
    )
    clients: set[str | None] = set()
    protos: set[str | None] = set()
    hops = 1
    if forwarded:
        elements = list(islice(_parse(forwarded), MOST_HOPS))
        client, hops = _walk([_node_of(element.get("for", "")) for element in elements], trust)
        clients.add(client)
        told = [element["proto"] for element in elements[:hops] if "proto" in element]
        if told:
            protos.add(_scheme_of(told[-1]))
    if addresses:
        client, hops = _walk(map(_address_of, _split(addresses)), trust)
        clients.add(client)
    if schemes:
        told = list(islice(_split(schemes), hops))
        protos.add(_scheme_of(told[-1] if told else ""))
    return Origin(
        next(iter(clients)) if len(clients) == 1 else None,
        next(iter(protos)) if len(protos) == 1 else None,
        len(clients) > 1 or len(protos) > 1,
    )


def _walk(nodes: Iterable[str | None], trust: Networks) -> tuple[str | None, int]:
    """
    Go from the nearest hop to the first that is not trusted, and stop at one that is no address.

    :return: the client; and how many elements were said by somebody whose word counts.
    """
    client = None
    hops = 0
    for node in islice(nodes, MOST_HOPS):
        hops += 1
        if node is None:
            break
        client = node
        if node not in trust:
            break
    return client, max(hops, 1)


def _split(lines: list[str]) -> Iterator[str]:
    """
    Give the elements of a plain list (RFC 9110, section 5.6.1), the last one first.
    """
    for line in reversed(lines):
        # Beyond MOST_HOPS the rest stays in one piece, which is no element.
        for piece in reversed(line.rsplit(",", MOST_HOPS)):
            if element := piece.strip(" \t"):
                yield element


def _parse(lines: list[str]) -> Iterator[dict[str, str]]:
    """
    Give the elements of ``Forwarded`` (RFC 7239, section 4), the last one first.

    A comma may stand in a quoted string.  So a piece that is no element is tried again
    with the piece before it; a shorter match is never part of a longer one, since it
    would have an odd number of quotes.
    """
    for line in reversed(lines):
        tail = ""
        commas = 0
        for piece in reversed(line.rsplit(",", MOST_HOPS)):
            element = (piece + tail).strip(" \t")
            if element and not _ELEMENT.fullmatch(element):
                tail = "," + piece + tail
                commas += 1
                if commas > _MOST_COMMAS:
                    return
                continue
            tail = ""
            commas = 0
            pairs = _PAIRS.findall(element)
            parameters = {
                name.lower(): token or re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
                for name, token, quoted in pairs
            }
            if len(parameters) < len(pairs):  # section 4: none may occur twice
                return
            if element:
                yield parameters
        if tail:
            return


def _address_of(text: str) -> str | None:
    """
    Parse an element of ``X-Forwarded-For``: an address, or a node as in ``Forwarded``.
    """
    if text.count(":") > 1 and "[" not in text:
        text = f"[{text}]"
    return _node_of(text)


def _node_of(text: str) -> str | None:
    """
    Parse a node (RFC 7239, section 6).

    :return: the address; None if it is unknown, obfuscated or malformed.
    """
    # A client is named with each of its requests, and to parse an address takes 5 us.
    return _known_node(text) if len(text) <= _LONGEST_KNOWN else _parse_node(text)


def _parse_node(text: str) -> str | None:
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    ipv6, ipv4 = match.groups()
    try:
        return presented(str(ipaddress.IPv6Address(ipv6) if ipv6 else ipaddress.IPv4Address(ipv4)))
    except ValueError:
        return None


_known_node = lru_cache(MEMO)(_parse_node)


def _scheme_of(text: str) -> str | None:
    return text.lower() if _SCHEME.fullmatch(text) else None
