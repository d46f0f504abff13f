r"""
The list of ``--affinity``: which keys a client is looked for by, in which order.

::

    cookie:stickyd,header:X-User,ip

======================  =============================================================
``ip``                  the address; ``ip/24`` and ``ip/24/56`` set the IPv4 and IPv6
                        prefix lengths
``cookie:NAME``         a cookie that the worker sets, which names the slot and is signed
``header:NAME``         a request header, hashed
``query:NAME``          a query parameter, hashed
``path:REGEX``          the first group of a regular expression on the path, hashed
``sni``                 the server name of the TLS handshake, hashed
``stamp:HEADER``        an id that the application mints in a response header and the
                        client sends back in a request header of the same name; the
                        worker appends the signed slot
``learn:header:NAME``   an id that the application mints, owned by the worker that minted
``learn:cookie:NAME``   it, and remembered by the primary
``learn:query:NAME``
``minted:header:NAME``  an id that the application got from :func:`stickyd.mint`,
``minted:query:NAME``   which names its slot and is signed
``minted:cookie:NAME``
``minted:path:REGEX``
======================  =============================================================

A comma separates entries.  In an entry (a ``path`` regex may need one) it is written
``\,``; a regex reads that as a comma anyway.  In a TOML list the entries are already
apart, and nothing is escaped; an entry that ends in a backslash can only be written there.
Colons need no care: a regex, like a name, is all that follows the kind's own colon.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from stickyd.affinity.address import IpKey, TextKey, parse_ip_key
from stickyd.affinity.keys import CookieKey, HeaderKey, PathKey, QueryKey
from stickyd.affinity.peek.client_hello import SniKey
from stickyd.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stickyd.affinity.peek.http1 import Head


@dataclass(frozen=True)
class StampKey:
    """
    ``stamp:HEADER``: an id that the worker stamped with its slot.

    :ivar header: the header, both of the response that mints it and of the requests.
    """

    header: HeaderKey

    def key_of(self, head: Head) -> bytes | None:
        """
        Give the stamped id, for :meth:`stickyd.affinity.token.Signer.unstamp`; or None.
        """
        return self.header.key_of(head)

    def values_of(self, head: Head) -> list[bytes]:
        """
        Give what may be a stamped id in all headers of the name.
        """
        return self.header.values_of(head)

    def __str__(self) -> str:
        return f"stamp:{self.header.name}"


@dataclass(frozen=True)
class LearnKey:
    """
    ``learn:KIND:NAME``: an id that the application minted, to be looked up.

    :ivar source: where the id stands in a request.
    """

    source: HeaderKey | CookieKey | QueryKey

    def key_of(self, head: Head) -> bytes | None:
        """
        Give the id, or None.
        """
        return self.source.key_of(head)

    def __str__(self) -> str:
        return f"learn:{self.source}"


@dataclass(frozen=True)
class MintedKey:
    """
    ``minted:KIND:NAME``: an id that :func:`stickyd.mint` has made.

    :ivar source: where the id stands in a request.
    """

    source: HeaderKey | CookieKey | QueryKey | PathKey

    def key_of(self, head: Head) -> bytes | None:
        """
        Give what may be such an id, or None.
        """
        return self.source.key_of(head)

    def values_of(self, head: Head) -> list[bytes]:
        """
        Give all that may be one.
        """
        return self.source.values_of(head)

    def __str__(self) -> str:
        return f"minted:{self.source}"


AddressKey: TypeAlias = IpKey | TextKey
"""
Asked with the client's host; always has an answer.
"""

HeadKey: TypeAlias = CookieKey | HeaderKey | QueryKey | PathKey | StampKey | LearnKey | MintedKey
"""
Asked with the head of a request.  The value of :class:`CookieKey` and of :class:`MintedKey` names
its slot and that of :class:`StampKey` carries it, all signed; :class:`LearnKey`'s is to be looked
up; the others are hashed.
"""

Key: TypeAlias = AddressKey | HeadKey | SniKey

_KINDS = ("ip", "cookie", "header", "query", "path", "sni", "stamp", "learn", "minted")
_EXAMPLES = {
    "cookie": "cookie:stickyd",
    "header": "header:X-User",
    "query": "query:user",
    "path": "path:/room/([^/]+)",
    "stamp": "stamp:Mcp-Session-Id",
    "learn": "learn:cookie:session, learn:header:X-Session or learn:query:sid",
    "minted": "minted:header:Mcp-Param-Basket, minted:query:room, minted:cookie:game or"
    " minted:path:/upload/([^/]+)",
}
_SEPARATOR = re.compile(r"(?<!\\),")
#: What a header or a cookie may be named.
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110, section 5.6.2
#: Cookies that frameworks set by themselves.
_FRAMEWORK_COOKIES = {
    "session": "Flask, Quart and Starlette",
    "remember_token": "Flask-Login",
    "sessionid": "Django",
    "csrftoken": "Django",
    "messages": "Django",
    "TWISTED_SESSION": "twisted.web",
    "TWISTED_SECURE_SESSION": "twisted.web",
    "beaker.session.id": "Beaker",
    "session_id": "CherryPy and Odoo",
    "webpy_session_id": "web.py",
    "_xsrf": "Tornado",
    "io": "Engine.IO",
    "connect.sid": "Express",
    "JSESSIONID": "Java servlets",
    "PHPSESSID": "PHP",
}
_MINTED = (
    (HeaderKey("Mcp-Session-Id"), "stamp:Mcp-Session-Id"),
    (QueryKey("sid"), "learn:query:sid"),
)


@dataclass(frozen=True)
class Affinity:
    """
    The keys of ``--affinity``, in order; the first that a client has decides.

    :ivar keys: at least one.
    :ivar warnings: what the operator should be told, a line each.
    """

    keys: tuple[Key, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ",".join(str(key).replace(",", "\\,") for key in self.keys)


def split_entries(text: str) -> list[str]:
    """
    Take a list that is one text apart.
    """
    return [entry.replace("\\,", ",") for entry in _SEPARATOR.split(text)]


def parse_affinity(
    value: str | Iterable[str], parse_ip: Callable[[str], AddressKey] = parse_ip_key
) -> Affinity:
    """
    Parse the list of ``--affinity``.

    :param value: the list as one text, or its entries, as TOML gives them.
    :param parse_ip: parses the ``ip`` entry; for the ``modulo`` placement
        :func:`stickyd.affinity.address.parse_text_key`.
    :raises SettingError: if an entry is not one, or there is none.
    """
    if isinstance(value, str):
        value = split_entries(value)
    keys = tuple(_parse_entry(entry.strip(), parse_ip) for entry in value)
    if not keys:
        raise SettingError("--affinity: the list is empty; write ip to place clients by address")
    return Affinity(keys, tuple(_warnings_of(keys)))


def _parse_entry(entry: str, parse_ip: Callable[[str], AddressKey]) -> Key:
    """
    Parse one entry.
    """
    kind, colon, argument = entry.partition(":")
    if kind.partition("/")[0] == "ip":
        return parse_ip(entry)  # it complains of a colon, too
    if kind == "sni":
        if colon:
            raise SettingError(f"--affinity: {entry!r}: sni takes no name; write sni")
        return SniKey()
    if kind not in _KINDS:
        raise _unknown(entry, kind)
    if not argument:
        raise SettingError(f"--affinity: {entry!r} lacks its name; write {_EXAMPLES[kind]}")
    if kind == "path":
        return PathKey(argument)
    if kind == "stamp":
        return StampKey(HeaderKey(_name(entry, argument)))
    if kind == "learn":
        return LearnKey(_inner_source(entry, kind, argument))
    if kind == "minted":
        inner, _, regex = argument.partition(":")
        if inner == "path" and regex:
            return MintedKey(_minted_path(entry, regex))
        return MintedKey(_inner_source(entry, kind, argument))
    source = _source(entry, kind, argument)
    assert source is not None
    return source


def _inner_source(entry: str, kind: str, argument: str) -> HeaderKey | CookieKey | QueryKey:
    """
    Make the key that reads an id from a request, of what follows a kind.
    """
    inner, _, name = argument.partition(":")
    source = _source(entry, inner, name) if name else None
    if source is None:
        raise SettingError(f"--affinity: {entry!r}; write {_EXAMPLES[kind]}")
    return source


def _minted_path(entry: str, regex: str) -> PathKey:
    try:
        return PathKey(regex)
    except SettingError as problem:
        # It names the entry as it would be without our kind.
        said = str(problem).replace(f"'path:{regex}'", f"'{entry}'", 1)
        raise SettingError(said.replace("example path:", "example minted:path:", 1)) from None


def _source(entry: str, kind: str, name: str) -> HeaderKey | CookieKey | QueryKey | None:
    """
    Make the key that reads a name from a request, or None if there is no such kind.
    """
    if kind == "query":
        return QueryKey(name)
    if kind == "header":
        return HeaderKey(_name(entry, name))
    if kind == "cookie":
        return CookieKey(_name(entry, name))
    return None


def _name(entry: str, name: str) -> str:
    if not NAME.fullmatch(name):
        raise SettingError(
            f"--affinity: {entry!r}: {name!r} is not a name of a header or a cookie, which has "
            "letters, digits and any of !#$%&'*+-.^_`|~"
        )
    return name


def _unknown(entry: str, kind: str) -> SettingError:
    nearest = difflib.get_close_matches(kind.lower(), _KINDS, 1)
    if not nearest:
        return SettingError(
            f"--affinity: {entry!r} is no key; write one of ip, sni, {', '.join(_EXAMPLES)}"
        )
    instead = _EXAMPLES.get(nearest[0], nearest[0])
    return SettingError(
        f"--affinity: {entry!r}: there is no kind {kind!r}; did you mean {nearest[0]}? "
        f"Write for example {instead}"
    )


def _warnings_of(keys: tuple[Key, ...]) -> Iterable[str]:
    """
    Tell what is allowed and will not do what it seems to.
    """
    for position, key in enumerate(keys):
        for minted, instead in _MINTED:
            if key == minted:
                yield (
                    f"--affinity: {key}: the application mints this id after the client was "
                    f"placed, so its hash names another slot than the one that minted it; "
                    f"write {instead}"
                )
        maker = _FRAMEWORK_COOKIES.get(key.name) if isinstance(key, CookieKey) else None
        if maker is not None:
            yield (
                f"--affinity: {key}: a cookie of this name is set by {maker}, and the two would "
                f"overwrite each other; write cookie:stickyd, or any name that the application "
                f"does not use"
            )
        if key in keys[:position]:
            yield f"--affinity: {key} is listed twice; the second is never asked"
        if isinstance(key, AddressKey) and position + 1 < len(keys):
            yield (
                f"--affinity: every client has an address, so what follows {key} is never "
                f"asked; put {key} last"
            )
