"""
The environ of a WSGI application: PEP 3333's words for a parsed request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Fields that CGI knows by a name of its own (RFC 3875, 4.1).
_OWN_NAMES = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}

#: How many names of fields are remembered; clients may invent as many as they like.
_MOST_NAMES = 1024

#: How many blocks of fields are remembered, and how large each may be: some MB at most.
MOST_REMEMBERED = 256
REMEMBERED_BYTES = 1024

_names: dict[bytes, str] = dict(_OWN_NAMES)


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


def add_request_line(environ: dict[str, Any], method: bytes, target: bytes, version: bytes) -> None:
    """
    Put the request line in.

    :param target: in origin form, as it came.
    """
    environ["REQUEST_METHOD"] = method.decode("latin-1")
    environ["SERVER_PROTOCOL"] = version.decode("latin-1")
    text = target.decode("latin-1")
    environ["RAW_URI"] = environ["REQUEST_URI"] = text
    path, _, environ["QUERY_STRING"] = text.partition("?")
    if "%" in path:
        path = unquote_to_bytes(path).decode("latin-1")
    environ["PATH_INFO"] = path


def add_ends(environ: dict[str, Any], secure: bool, client: Any, server: Any) -> None:
    """
    Put the two ends in, each by itself: a client that a proxy on a UNIX socket
    tells of has an address, and our end has none.

    :param secure: whether the client speaks TLS.
    :param client: an address of Twisted's, and ``server`` too.
    """
    if secure:
        environ["wsgi.url_scheme"] = "https"
    environ["REMOTE_ADDR"] = getattr(client, "host", "")
    environ["REMOTE_PORT"] = str(getattr(client, "port", ""))
    # PEP 3333: neither is ever empty.
    environ["SERVER_PORT"] = str(getattr(server, "port", "") or (443 if secure else 80))
    if not environ["SERVER_NAME"]:
        environ["SERVER_NAME"] = getattr(server, "host", "") or "localhost"


def server_name(host: str) -> str:
    """
    Give the name by which the client calls us.

    :param host: the field ``Host``, or nothing.
    """
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0]


class Environs:
    """
    Begins the environs of one application's requests.

    Clients send the same fields again and again, so what was made of some is remembered.
    """

    def __init__(self, template: dict[str, Any]) -> None:
        """
        :param template: what is the same in all of them.
        """
        self._template = template
        self._remembered: dict[bytes, tuple[list[tuple[bytes, bytes]], dict[str, Any]]] = {}

    def begin(self, raw: bytes, fields: list[tuple[bytes, bytes]]) -> dict[str, Any]:
        """
        Make an environ with some fields in it.

        :param raw: their bytes, as they came.
        :param fields: pairs of lower-case name and value.
        """
        known = self._remembered.get(raw)
        if known is not None and known[0] is fields:
            return known[1].copy()
        environ = self._template.copy()
        add_fields(environ, fields)
        environ["SERVER_NAME"] = server_name(environ.get("HTTP_HOST", ""))
        if not 0 < len(raw) <= REMEMBERED_BYTES:
            return environ
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[raw] = fields, environ
        return environ.copy()
