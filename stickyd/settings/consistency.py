"""
What one setting demands of another.

Each value is sound by itself when it comes here (:mod:`stickyd.settings.values`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stickyd.affinity.keys import CookieKey
from stickyd.affinity.spec import NAME
from stickyd.errors import SettingError
from stickyd.settings.access_format import parse_format
from stickyd.settings.admin_place import parse_admin_place
from stickyd.settings.bus_url import read_bus_url
from stickyd.settings.session_url import parse_session_url
from stickyd.settings.values import spelt

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from stickyd.settings.table import Table

_ASGI = ("--asgi", "--asgi-factory")
_WSGI = ("--wsgi", "--wsgi-factory")
_RESOURCES = ("--resource", *_WSGI, "--static", "the demonstration")
_HTTP = (*_ASGI, *_RESOURCES)

#: Short enough for an id that names it, see stickyd.affinity.minted_ids.
_NODE = re.compile(r"[a-z0-9]{1,12}")

#: The settings that only some kinds of applications understand.
_OF_ONE_KIND = {
    "http2": _RESOURCES,
    "head_fields": _HTTP,
    "body_bytes": _HTTP,
    "static_dotfiles": ("--static",),
    "form_bytes": ("--resource", "the demonstration"),
    "session_cookie": ("--resource", *_ASGI),  # the demonstration needs no cookie
    "idle_timeout": _HTTP,
    "head_timeout": _HTTP,
    "body_timeout": _HTTP,
    "access_log": _HTTP,
    "access_log_format": _HTTP,
    "root_path": (*_ASGI, *_WSGI),
    "lifespan": _ASGI,
    "limit_concurrency": _ASGI,
    "ws_max_size": _ASGI,
    "asgi_sessions": _ASGI,
    "wsgi_threads": _WSGI,
    "wsgi_queue": _WSGI,
    "wsgi_websockets": _WSGI,
    "request_timeout": _WSGI,
}


def check(settings: Table, given: AbstractSet[str]) -> None:
    """
    Refuse settings that contradict each other.

    :param given: the names of those that are not as by default.
    :raises SettingError: says what to write instead.
    """
    _check_application(settings, given)
    _check_root_path(settings.root_path)
    _check_node(settings.node)
    _check_bus(settings)
    if settings.tls and settings.overflow == "503":
        raise SettingError(
            "--overflow 503 is plain HTTP, which a TLS client cannot read; with --tls write"
            " --overflow close or reset"
        )
    if settings.http2 == "on" and not settings.tls:
        raise SettingError("--http2 on needs --tls: HTTP/2 is agreed on in the TLS handshake")
    for name in ("stick_limit", "stick_timeout"):
        if name in given and settings.placement != "least":
            raise SettingError(
                f"--{spelt(name)} means nothing to the {settings.placement} placement; it is for"
                " --placement least"
            )
    _check_generation(settings)
    _check_keeping(settings, given)
    _check_admin(settings, given)
    _check_cookie(settings, given)
    if "session_cookie" in given or settings.asgi_sessions == "on":
        _check_session_cookie(settings)
    _check_sessions(settings, given)
    parse_format(settings.access_log_format)
    if "access_log_format" in given and not settings.access_log:
        raise SettingError(
            "--access-log-format means nothing without --access-log; write for example"
            " --access-log -"
        )
    # Parsed whoever asks for it: a wrong network must not come to light later.
    networks = settings.networks
    if settings.proxy_protocol == "on" and not networks:
        raise SettingError(
            "--proxy-protocol on: nobody is trusted to say who the client is; name your"
            " proxies with --trust, for example --trust 10.0.0.0/8"
        )


def _check_generation(settings: Table) -> None:
    name, header = settings.generation_name, settings.generation_header
    if not (name.isascii() and name.isprintable() and name == name.strip()):
        raise SettingError(
            f"--generation-name {name!r}: write visible ASCII, as in --generation-name 1.4.2"
        )
    if header and not NAME.fullmatch(header):
        raise SettingError(
            f"--generation-header {header!r} is no name of a field; write for example"
            " --generation-header X-Generation"
        )
    if header and settings.protocol:
        raise SettingError("--generation-header means nothing to --protocol, which has no fields")


def _check_keeping(settings: Table, given: AbstractSet[str]) -> None:
    if settings.reload_mode != "client":
        for name in ("client_idle", "known_limit", "max_leaving_memory"):
            if name in given:
                raise SettingError(
                    f"--{spelt(name)} means nothing where no worker keeps its clients; write"
                    " --reload-mode client"
                )
    elif parse_session_url(settings.sessions).scheme == "sqlite":
        raise SettingError(
            "--reload-mode client: two workers of one slot cannot share its file of sessions in"
            " sqlite; leave --reload-mode out (these sessions outlive a reload), or keep them in"
            " memory or Redis"
        )


def _check_admin(settings: Table, given: AbstractSet[str]) -> None:
    public = settings.admin_public == "on"
    for option, place in (("--admin", settings.admin), ("--agent-check", settings.agent_check)):
        if place:
            parse_admin_place(option, place, public)
    for name in ("admin_host", "admin_token_file"):
        if name in given and not settings.admin:
            raise SettingError(f"--{spelt(name)} means nothing without --admin; write --admin 9100")
    for name in ("admin_public", "lame_duck", "ready_slots", "ready_store"):
        if name in given and not (settings.admin or settings.agent_check):
            raise SettingError(
                f"--{spelt(name)} means nothing where nobody can ask how the server is; write"
                " --admin 9100, or --agent-check 9101 for HAProxy"
            )
    if settings.ready_store == "on" and not parse_session_url(settings.sessions).of_redis:
        raise SettingError(
            "--ready-store on: only a store on a server can be away; it is for --sessions redis:"
        )


def _check_application(settings: Table, given: AbstractSet[str]) -> None:
    applications = [f"--{kind}" for kind, _ in settings.applications]
    if len(applications) > 1:
        raise SettingError(f"{' and '.join(applications)}: only one application can be served")
    kind = applications[0] if applications else "the demonstration"
    for name, kinds in _OF_ONE_KIND.items():
        if name in given and kind not in kinds:
            raise SettingError(
                f"--{spelt(name)} means nothing to {kind}; it is for {' and '.join(kinds)}"
            )
    if kind in _ASGI and settings.worker_reactor == "epoll":
        raise SettingError(
            f"{kind}: ASGI applications need an asyncio loop; write --worker-reactor"
            " uvloop or asyncio instead of epoll"
        )


def _check_node(node: str) -> None:
    if node and not _NODE.fullmatch(node):
        raise SettingError(
            f"--node {node}: a machine's name is 1 to 12 of the letters a to z and the digits, as"
            " in --node web1"
        )


def _check_bus(settings: Table) -> None:
    address = read_bus_url(settings.bus)
    if address is not None and settings.worker_reactor == "epoll":
        raise SettingError(
            f"--bus {address}: a bus by way of Redis needs an asyncio loop; write"
            " --worker-reactor uvloop or asyncio instead of epoll"
        )


def _check_sessions(settings: Table, given: AbstractSet[str]) -> None:
    url = parse_session_url(settings.sessions)
    if url.scheme == "memory":
        for name in ("session_grace", "session_away", "session_cache", "session_key_file"):
            if name in given:
                raise SettingError(
                    f"--{spelt(name)} means nothing to sessions in memory; name a store, as in"
                    " --sessions sqlite:/var/lib/app/sessions"
                )
    elif settings.protocol:
        raise SettingError("--sessions means nothing to --protocol, which has no sessions")
    elif url.scheme == "sqlite" and settings.session_away == "memory":
        raise SettingError(
            "--session-away memory means nothing to sqlite, which has no server to wait for;"
            " leave it out"
        )
    elif settings.worker_reactor == "epoll" and url.of_redis:
        raise SettingError(
            f"--sessions {url.shown}: sessions in Redis need an asyncio loop; write"
            " --worker-reactor uvloop or asyncio instead of epoll"
        )


def _check_root_path(path: str) -> None:
    # uvicorn encodes it as ASCII and puts it before the path as it is.
    if path and (not path.startswith("/") or path.endswith("/") or not path.isascii()):
        raise SettingError(
            f"--root-path {path}: write it in ASCII, with a slash before and none behind, as"
            " in --root-path /shop"
        )


def _check_cookie(settings: Table, given: AbstractSet[str]) -> None:
    sessions = settings.asgi_sessions == "on"
    if CookieKey not in {type(key) for key in settings.keys.keys} and not sessions:
        for name in ("path", "domain", "samesite", "secure", "max_age"):
            if f"cookie_{name}" in given:
                raise SettingError(
                    f"--cookie-{spelt(name)} means nothing without a cookie; write for"
                    " example --affinity cookie:stickyd"
                )
    if settings.cookie_samesite == "none" and settings.cookie_secure == "never":
        raise SettingError(
            "--cookie-samesite none: browsers drop such a cookie unless it is Secure; write"
            " --cookie-secure always"
        )
    if sessions:
        _check_asgi_sessions(settings)
    elif "session_cookie" in given and not settings.resource:
        raise SettingError(
            f"--session-cookie {settings.session_cookie} means nothing without --asgi-sessions on"
        )
    for name in ("path", "domain"):
        _check_cookie_attribute(name, getattr(settings, f"cookie_{name}"))


def _check_session_cookie(settings: Table) -> None:
    name = settings.session_cookie_name
    if not NAME.fullmatch(name):
        raise SettingError(
            f"--session-cookie: {name!r} is not a name of a cookie, which has letters, digits and"
            " any of !#$%&'*+-.^_`|~"
        )
    for key in settings.keys.keys:
        if isinstance(key, CookieKey) and key.name in (name, f"{name}_SECURE"):
            raise SettingError(
                f"--session-cookie {name}: --affinity {key} would overwrite it; write another name"
            )


def _check_asgi_sessions(settings: Table) -> None:
    if settings.cookie_secure == "never":
        raise SettingError(
            "--cookie-secure never: the session's cookie is Secure over TLS in any case; write"
            " --cookie-secure auto"
        )
    if settings.cookie_samesite == "none" and settings.cookie_secure != "always":
        raise SettingError(
            "--cookie-samesite none: browsers drop a session's cookie so unless it is Secure;"
            " write --cookie-secure always"
        )


def _check_cookie_attribute(name: str, value: str) -> None:
    # RFC 6265, section 4.1.1: any character except controls and ";".
    if not (value.isascii() and value.isprintable()) or ";" in value:
        raise SettingError(f"--cookie-{name}: {value!r} cannot stand in a Set-Cookie header")
    if name == "path" and not value.startswith("/"):
        raise SettingError(f"--cookie-path: {value!r} does not begin with a slash; write /{value}")
