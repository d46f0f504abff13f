"""
The environ of a WSGI application: PEP 3333's words for a parsed request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Fields that CGI knows by a name of its own (RFC 3875, 4.1).
_OWN_NAMES = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}

#: How many names of fields are remembered; clients may invent as many as they like.
_MOST_NAMES = 1024

_names: dict[bytes, str] = dict(_OWN_NAMES)


class Party(NamedTuple):
    """
    One end of a connection, as far as the environ tells it.

    :ivar host: an address; empty at a UNIX socket.
    :ivar port: a number; empty where there is none.
    """

    host: str
    port: str


def name_of_field(field: bytes) -> str:
    """
    Give the variable that a field stands in.

    :param field: its name, in lower case.
    :return: nothing if it must stand in none: with an underscore it would become the same
        variable as the field with a hyphen, which proxies set and remove, and this one not.
    """
    name = _names.get(field)
    if name is None:
        name = ""
        if b"_" not in field:
            name = "HTTP_" + field.decode("latin-1").upper().replace("-", "_")
        if len(_names) < _MOST_NAMES:
            _names[field] = name
    return name


def add_fields(environ: dict[str, Any], fields: Iterable[tuple[bytes, bytes]]) -> None:
    """
    Put the fields of a request in; those of one name become one list (RFC 9110, 5.3).

    :param fields: pairs of lower-case name and value.
    """
    for field, value in fields:
        name = _names.get(field)
        if name is None:
            name = name_of_field(field)
        if not name:
            continue
        text = value.decode("latin-1")
        if name in environ:
            # RFC 9113, 8.2.3: the pieces of a cookie are no list.
            text = f"{environ[name]}{'; ' if field == b'cookie' else ','}{text}"
        environ[name] = text


def add_target(environ: dict[str, Any], target: bytes) -> None:
    """
    Put the request target in.

    :param target: in origin form, as it came.
    """
    path, _, query = target.partition(b"?")
    environ["RAW_URI"] = environ["REQUEST_URI"] = target.decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1")
    if b"%" in path:
        path = unquote_to_bytes(path)
    environ["PATH_INFO"] = path.decode("latin-1")


def add_parties(environ: dict[str, Any], client: Party, server: Party) -> None:
    """
    Put in who speaks with whom; after the fields, as the client's word for our name counts.

    Each by itself: a client that a proxy on a UNIX socket tells of has an address, and our
    end has none.
    """
    environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client
    # PEP 3333: neither is ever empty.
    environ["SERVER_NAME"] = (
        _without_port(environ.get("HTTP_HOST", "")) or server.host or "localhost"
    )
    environ["SERVER_PORT"] = server.port or (
        "443" if environ["wsgi.url_scheme"] == "https" else "80"
    )


def _without_port(authority: str) -> str:
    if authority.startswith("["):
        return authority.partition("]")[0][1:]
    return authority.partition(":")[0]
