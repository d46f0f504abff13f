"""
Where a Redis is, as ``--sessions`` and ``--bus`` say it.

====================================================  =========================================
``redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]``    one server; port 6379, database 0
``redis+sentinel://[…@]HOST[:PORT],…/SERVICE[/DB]``   what these Sentinels say is the primary of
                                                      the service; port 26379
``redis+cluster://[…@]HOST[:PORT],…``                 a Cluster, of which these are some nodes
====================================================  =========================================

With ``rediss`` for ``redis`` connections are of TLS; ``valkey`` and ``valkeys`` are the same
two by another name.  Options follow a ``?``, joined by ``&``:

- ``prefix=TEXT``: what each key and channel begins with, ``stickyd:`` by default;
- ``wait=COUNT``, of sessions: a write is acknowledged when so many replicas have it, 0 by default;
- ``wait_ms=NUMBER``, of sessions: how long to wait for them, 1000 by default;
- ``ca=FILE``: the certificates that sign the server's, for TLS; the system's by default;
- ``sentinel_user=``, ``sentinel_password=``: for the Sentinels themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING
from urllib.parse import unquote

from stickyd.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCHEME = re.compile(r"(redis|valkey)(s?)(?:\+(sentinel|cluster))?", re.ASCII)

_FORMS = (
    "redis://HOST:6379/0, redis+sentinel://HOST:26379,HOST:26379/SERVICE/0 or"
    " redis+cluster://HOST:6379,HOST:6379 (rediss for TLS; valkey and valkeys are the same)"
)

OPTIONS = ("prefix", "wait", "wait_ms", "ca", "sentinel_user", "sentinel_password")

#: Those that mean something to the bus.
BUS_OPTIONS = ("prefix", "ca", "sentinel_user", "sentinel_password")


@dataclass(frozen=True)
class RedisAddress:
    """
    A Redis, and how it is used.  Neither ``repr`` nor :meth:`__str__` shows a
    password.
    """

    form: str
    """``server``, ``sentinel`` or ``cluster``."""

    hosts: tuple[tuple[str, int], ...]
    """The server, Sentinels, or some nodes of the Cluster: host and port."""

    tls: bool = False

    user: str = ""

    password: str = field(default="", repr=False)

    database: int = 0

    service: str = ""
    """What the Sentinels call the primary and its replicas."""

    prefix: str = "stickyd:"
    """What each key and channel begins with."""

    wait_replicas: int = 0
    """How many replicas must have a write before it is acknowledged."""

    wait_ms: int = 1_000
    """Milliseconds to wait for them."""

    ca: str = ""
    """A file with the certificates that sign the server's; empty for the system's."""

    sentinel_user: str = ""

    sentinel_password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """
        Write it without secrets.
        """
        tls = "s" if self.tls else ""
        form = "" if self.form == "server" else f"+{self.form}"
        hosts = ",".join(show_host(host, port) for host, port in self.hosts)
        path = f"/{self.service}" if self.service else ""
        if self.form != "cluster":
            path += f"/{self.database}"
        return f"redis{tls}{form}://{hosts}{path}"


def show_host(host: str, port: int) -> str:
    """
    Write host and port as a URL has them.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _WrongUrl(Exception):
    """
    It is no URL of a Redis.
    """


def read_redis_url(
    url: str, setting: str = "--sessions", options: Sequence[str] = OPTIONS
) -> RedisAddress:
    """
    Read a URL, see above.

    :param setting: whose it is, for errors.
    :param options: those that mean something there.
    :raise stickyd.errors.SettingError: it is none.  The message has nothing of what may be a
        password.
    """
    try:
        return _read(url, options)
    except _WrongUrl as problem:
        raise SettingError(f"{setting}: the URL of a Redis is wrong: {problem}") from None


def _read(url: str, known: Sequence[str]) -> RedisAddress:
    scheme, found, rest = url.partition("://")
    kind = _SCHEME.fullmatch(scheme.lower())
    if not found or kind is None:
        raise _wrong("it is not one of the forms", f"write {_FORMS}")
    form = kind[3] or "server"
    rest, _, query = rest.partition("?")
    login, _, place = rest.rpartition("@")
    hosts, _, path = place.partition("/")
    user, _, password = login.partition(":")
    port = 26379 if form == "sentinel" else 6379
    service, database = _read_path(form, path)
    options = _read_options(query, known)
    address = RedisAddress(
        form,
        tuple(_read_host(text, port) for text in hosts.split(",")),
        bool(kind[2]),
        unquote(user),
        unquote(password),
        database,
        service,
        options.get("prefix", RedisAddress.prefix),
        _read_number("wait", options.get("wait", "0"), 0, 100),
        _read_number("wait_ms", options.get("wait_ms", "1000"), 1, 60_000),
        options.get("ca", ""),
        options.get("sentinel_user", ""),
        options.get("sentinel_password", ""),
    )
    _check(address)
    return address


def _check(address: RedisAddress) -> None:
    if address.form == "server" and len(address.hosts) > 1:
        raise _wrong(
            "it has several hosts", "write redis+sentinel://… or redis+cluster://… if they are that"
        )
    if address.user and not address.password:
        raise _wrong(
            "it has a user and no password",
            "write USER:PASSWORD@HOST, or :PASSWORD@HOST if there is only a password",
        )
    if address.ca and not address.tls:
        raise _wrong("ca= is for TLS", f"write rediss://… or leave ca={address.ca} out")
    if (address.sentinel_user or address.sentinel_password) and address.form != "sentinel":
        raise _wrong("sentinel_user= and sentinel_password= are for Sentinels", "leave them out")
    if "{" in address.prefix or "}" in address.prefix:
        raise _wrong("prefix= has a brace, which would put all keys on one node", "leave it out")


def _read_host(text: str, port: int) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/@]+))(?::([0-9]{1,5}))?", text)
    if match is None:
        # Not what was read: a password with an unquoted / or ? ends up here.
        raise _wrong(
            "one of its hosts is not HOST or HOST:PORT",
            "write [..] around an IPv6 address, and %2F, %3F, %23 and %40 for / ? # and @ in a"
            " password",
        )
    host = match[1] or unquote(match[2])
    number = int(match[3] or port)
    if not 1 <= number <= 65_535:
        raise _wrong(f"the port {number} does not exist", "write one from 1 to 65535")
    return host, number


def _read_path(form: str, path: str) -> tuple[str, int]:
    parts = [unquote(part) for part in path.split("/") if part]
    service = ""
    if form == "sentinel":
        if not parts:
            raise _wrong(
                "it does not name the service of the Sentinels",
                "write redis+sentinel://HOST:26379/SERVICE, as in `sentinel monitor SERVICE …`",
            )
        service = parts.pop(0)
    if form == "cluster" and parts and parts != ["0"]:
        raise _wrong("a Cluster has no databases", "leave out what follows the hosts")
    if len(parts) > 1:
        raise _wrong("its path is too long", f"write {_FORMS}")
    return service, _read_number("the database", parts[0] if parts else "0", 0, 1_000_000)


def _read_options(query: str, known: Sequence[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, found, value = part.partition("=")
        if name not in known or not found:
            listed = ", ".join(f"{option}=" for option in known)
            # What is like none may be a part of a password with a ?.
            shown = repr(name) if get_close_matches(name, OPTIONS, 1) else "one of its options"
            raise _wrong(f"{shown} is no option of it", f"write {listed} only")
        if name in options:
            raise _wrong(f"it has {name}= twice", "write it once")
        options[name] = unquote(value)
    return options


def _read_number(name: str, text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", text) or not least <= int(text) <= most:
        raise _wrong(f"{name} must be a number from {least} to {most}", "write one")
    return int(text)


def _wrong(what: str, write: str) -> _WrongUrl:
    return _WrongUrl(f"{what}; {write}")
