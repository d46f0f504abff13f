"""
The keys that stand in a request: cookie, header, query and path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import httptools

from stickyd.errors import SettingError

if TYPE_CHECKING:
    from stickyd.affinity.peek.http1 import Head


@dataclass(frozen=True)
class HeaderKey:
    """
    ``header:NAME``: the value of a header.

    :ivar name: in any case.
    """

    name: str = field(compare=False)
    _name: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_name", self.name.lower().encode("ascii"))

    def key_of(self, head: Head) -> bytes | None:
        """
        Give the header's value; of several, the first that is not empty; or None.
        """
        for name, value in head.headers:
            if name == self._name and value:
                return value
        return None

    def values_of(self, head: Head) -> list[bytes]:
        """
        Give the values of all headers of the name that are not empty.
        """
        return [value for name, value in head.headers if name == self._name and value]

    def __str__(self) -> str:
        return f"header:{self.name}"


@dataclass(frozen=True)
class CookieKey:
    """
    ``cookie:NAME``: the value of a cookie.

    :ivar name: it is compared with its case, as browsers do.
    """

    name: str
    _name: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_name", self.name.encode("ascii"))

    def key_of(self, head: Head) -> bytes | None:
        """
        Give the cookie's value, without quotes around it; or None if it is not there or empty.

        A browser sends the cookie of the more specific path first (RFC 6265, section
        5.4), so of several the first counts, where nothing else tells which.
        """
        values = self.values_of(head)
        return values[0] or None if values else None

    def values_of(self, head: Head) -> list[bytes]:
        """
        Give the values of all cookies of the name, as they stand: several have different paths
        or domains, or the same and different makers.
        """
        found = []
        for header, value in head.headers:
            if header != b"cookie":
                continue
            for pair in value.split(b";"):
                name, equals, content = pair.partition(b"=")
                if equals and name.strip(b" \t") == self._name:
                    found.append(_unquote(content.strip(b" \t")))
        return found

    def __str__(self) -> str:
        return f"cookie:{self.name}"


def _unquote(value: bytes) -> bytes:
    """
    Take off the quotes that a cookie's value may stand in (RFC 6265, section 4.1.1).
    """
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        return value[1:-1]
    return value


def _decoded(text: bytes) -> bytes:
    """
    Decode a name or a value of a form (``application/x-www-form-urlencoded``).
    """
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text


@dataclass(frozen=True)
class QueryKey:
    """
    ``query:NAME``: the value of a query parameter.

    :ivar name: as it reads when percent-decoded.
    """

    name: str
    _name: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # As Python decodes its arguments.
        object.__setattr__(self, "_name", self.name.encode("utf-8", "surrogateescape"))

    def key_of(self, head: Head) -> bytes | None:
        """
        Give the first parameter of the name, percent-decoded, a plus being a space.

        :return: None if it is not there or empty.
        """
        # Not urllib's parse_qsl: it decodes all of them, which takes 90 ms of a long target.
        for pair in head.target.partition(b"?")[2].split(b"&"):
            name, _, value = pair.partition(b"=")
            if pair and _decoded(name) == self._name:
                return _decoded(value) or None
        return None

    def values_of(self, head: Head) -> list[bytes]:
        """
        Give the first parameter of the name, if it is there and not empty: nobody else writes
        into the same target.
        """
        value = self.key_of(head)
        return [value] if value else []

    def __str__(self) -> str:
        return f"query:{self.name}"


@dataclass(frozen=True)
class PathKey:
    """
    ``path:REGEX``: what the first group of a regular expression captures of the path.

    The expression is matched from the beginning of the path *as it was sent*, so that
    an encoded slash (``%2F``) separates nothing.  The captured text is then
    percent-decoded, so that ``/room/caf%C3%A9`` and ``/room/caf%c3%a9`` are one key.

    :ivar pattern: the expression.
    """

    pattern: str
    _pattern: re.Pattern[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            pattern = re.compile(self.pattern.encode("utf-8", "surrogateescape"))
        except (re.error, OverflowError, RecursionError) as error:
            raise SettingError(
                f"--affinity: '{self}': {error}; write for example path:/room/([^/]+)"
            ) from None
        if not pattern.groups:
            raise SettingError(
                f"--affinity: '{self}' captures nothing; put parentheses around the part of "
                "the path that says who the client is, for example path:/room/([^/]+)"
            )
        object.__setattr__(self, "_pattern", pattern)

    def key_of(self, head: Head) -> bytes | None:
        """
        Give the decoded first group; or None if the path does not match, or the group is empty.
        """
        match = self._pattern.match(_path_of(head.target))
        if match is None:
            return None
        return unquote_to_bytes(match[1] or b"") or None

    def values_of(self, head: Head) -> list[bytes]:
        """
        Give the decoded first group, if there is one.
        """
        value = self.key_of(head)
        return [value] if value else []

    def __str__(self) -> str:
        return f"path:{self.pattern}"


def _path_of(target: bytes) -> bytes:
    """
    Give the path of a target, also of one in absolute form (RFC 9112, section 3.2).
    """
    if target.startswith(b"/"):
        return target.partition(b"?")[0]
    if b"://" not in target:
        return b""  # an authority, which CONNECT sends, or an asterisk, OPTIONS
    try:
        return httptools.parse_url(target).path or b""
    except httptools.HttpParserInvalidURLError:
        return b""
