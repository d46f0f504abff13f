"""
Every setting, with its default, its bounds and its help, in one table.

The command line, the configuration file and an embedding application all arrive here;
what comes out is frozen and valid.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from stickyd.affinity.address import parse_ip_key, parse_text_key
from stickyd.affinity.request import CookieKey
from stickyd.affinity.spec import parse_affinity, split_entries
from stickyd.affinity.trust import Networks
from stickyd.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stickyd.affinity.spec import Affinity

#: More slots than this do not fit into one classic BPF program (DESIGN: 4,096 instructions).
MOST_WORKERS = 256


@dataclass(frozen=True)
class _Rule:
    """
    What one setting may be.

    :ivar metavar: stands for the value in the help.
    :ivar split: takes a list that is one text apart; without it the text is one entry.
    """

    help: str
    metavar: str
    kind: type = str
    least: float = 0
    most: float = float("inf")
    choices: tuple[str, ...] = ()
    split: Callable[[str], list[str]] | None = None

    def read(self, name: str, value: object, where: str) -> Any:
        """
        Check a value, which may still be the text of the command line.
        """
        if self.choices:
            if value not in self.choices:
                raise _unlike(name, value, where, self.choices)
            return value
        if self.kind is tuple:
            return self._read_list(name, value, where)
        if self.kind is str:
            if not isinstance(value, str):
                raise SettingError(f"{where}{name}: expected text, not {value!r}")
            return value
        return self._read_number(name, value, where)

    def _read_list(self, name: str, value: object, where: str) -> tuple[str, ...]:
        entries = value
        if isinstance(value, str):
            entries = [value] if self.split is None else self.split(value)
        if not isinstance(entries, (list, tuple)) or not all(isinstance(e, str) for e in entries):
            raise SettingError(f"{where}{name}: expected text or a list of texts, not {value!r}")
        return tuple(entries)

    def _read_number(self, name: str, value: object, where: str) -> float:
        wanted = "a whole number" if self.kind is int else "a number of seconds"
        problem = SettingError(f"{where}{name}: {value!r} is not {wanted} {self._range()}")
        if isinstance(value, bool):
            raise problem
        try:
            number = self.kind(value)
        except (TypeError, ValueError):
            raise problem from None
        if isinstance(value, float) and number != value:
            raise problem
        if not self.least <= number <= self.most:
            raise problem
        return float(number) if self.kind is float else int(number)

    def _range(self) -> str:
        if self.most == float("inf"):
            return f"of at least {self.least:g}"
        return f"from {self.least:g} to {self.most:g}"


def _unlike(name: str, value: object, where: str, known: Iterable[str]) -> SettingError:
    known = list(known)
    close = get_close_matches(str(value), known, 1, 0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return SettingError(f"{where}{name}: {value!r} is unknown; {hint}known: {', '.join(known)}")


def _setting(default: Any, help: str, metavar: str, **rule: Any) -> Any:  # noqa: A002
    return field(default=default, metadata={"rule": _Rule(help, metavar, **rule)})


@dataclass(frozen=True)
class Settings:
    """
    What the operator decided; every value is checked.

    Times are in seconds.  Make one with :meth:`read`; the constructor checks only what
    concerns several settings at once.
    """

    listen: tuple[str, ...] = _setting(
        ("tcp:3000",),
        "Listen on this Twisted stream endpoint, e.g. tcp:80:interface=127.0.0.1,"
        " unix:/run/app.sock or systemd:domain=INET:index=0. Repeatable.",
        "ENDPOINT",
        kind=tuple,
    )
    workers: int = _setting(
        0,
        "How many workers, 1 to 256; 'auto' is one for each CPU that this process may use.",
        "N",
        kind=int,
        least=1,
        most=MOST_WORKERS,
    )
    resource: str = _setting(
        "",
        "Serve this twisted.web resource: an IResource, or a callable that returns one."
        " Without an application, a demonstration is served that counts each client's hits.",
        "MODULE:ATTRIBUTE",
    )
    asgi: str = _setting(
        "",
        "Serve this ASGI 3 application (Starlette, FastAPI, Django, Quart, python-socketio).",
        "MODULE:ATTRIBUTE",
    )
    asgi_factory: str = _setting(
        "",
        "Serve the ASGI 3 application that this callable returns; it gets no arguments.",
        "MODULE:ATTRIBUTE",
    )
    wsgi: str = _setting(
        "", "Serve this WSGI application (Flask, Django), in threads.", "MODULE:ATTRIBUTE"
    )
    static: str = _setting("", "Serve the files in this directory.", "DIRECTORY")
    protocol: str = _setting(
        "",
        "Serve any protocol: a Twisted IProtocolFactory, or a callable that returns one.",
        "MODULE:ATTRIBUTE",
    )
    root_path: str = _setting(
        "",
        "The prefix that a proxy in front takes off the path, e.g. /shop: an ASGI"
        " application's root_path, a WSGI application's SCRIPT_NAME.",
        "PATH",
    )
    lifespan: str = _setting(
        "auto",
        "Whether the ASGI application has a lifespan: on, off, or auto (one that raises has none).",
        "MODE",
        choices=("auto", "on", "off"),
    )
    limit_concurrency: int = _setting(
        0,
        "How many connections or running requests a worker's ASGI application may have; more"
        " get 503. 0 is no limit.",
        "N",
        kind=int,
    )
    ws_max_size: int = _setting(
        16 * 1024 * 1024,
        "The longest WebSocket message that an ASGI application gets, in bytes.",
        "N",
        kind=int,
        least=1,
    )
    wsgi_threads: int = _setting(
        10,
        "How many requests a worker's WSGI application handles at a time.",
        "N",
        kind=int,
        least=1,
        most=1000,
    )
    affinity: tuple[str, ...] = _setting(
        ("ip",),
        "What tells clients apart: a list, the first entry that a client has decides, and who"
        " has none goes to the least loaded worker. Entries: ip (ip/24/56 for networks of that"
        " IPv4 and IPv6 prefix length), cookie:NAME, header:NAME, query:NAME, path:REGEX, sni,"
        " stamp:HEADER, learn:header:NAME, learn:cookie:NAME, learn:query:NAME.",
        "KEY,...",
        kind=tuple,
        split=split_entries,
    )
    secret_file: str = _setting(
        "",
        "Sign the slots in cookies and stamps with the first line of this file, and accept those"
        " signed with any of its lines, of 16 bytes or more each. Without it a secret is made at"
        " each start, and no cookie outlives the primary.",
        "PATH",
    )
    cookie_path: str = _setting("/", "The Path of the cookie of cookie:NAME.", "PATH")
    cookie_domain: str = _setting("", "Its Domain; without one, the host that set it.", "DOMAIN")
    cookie_samesite: str = _setting(
        "lax", "Its SameSite: lax, strict or none.", "MODE", choices=("lax", "strict", "none")
    )
    cookie_secure: str = _setting(
        "auto",
        "Whether it is Secure: always, never, or auto (when the client speaks TLS, be it with a"
        " trusted proxy).",
        "MODE",
        choices=("auto", "always", "never"),
    )
    cookie_max_age: int = _setting(
        0, "Its Max-Age; 0 is until the browser is closed.", "SECONDS", kind=int
    )
    trust: tuple[str, ...] = _setting(
        (),
        "Believe X-Forwarded-For, Forwarded and PROXY headers of peers in these networks, e.g."
        " 10.0.0.0/8,::1,unix. Repeatable.",
        "NETWORKS",
        kind=tuple,
        split=lambda text: text.split(","),
    )
    proxy_protocol: str = _setting(
        "off",
        "Whether trusted peers begin each connection with a PROXY header, version 1 or 2: on or"
        " off.",
        "MODE",
        choices=("off", "on"),
    )
    head_bytes: int = _setting(
        32768,
        "How long the head of a request may be, request line and fields; past it 431.",
        "BYTES",
        kind=int,
        least=64,
        most=65536,
    )
    sniff_timeout: float = _setting(
        10.0,
        "How long the primary waits for the first bytes that it needs to place a connection.",
        "SECONDS",
        kind=float,
        least=0.1,
    )
    sniff_limit: int = _setting(
        1024, "How many connections may wait for theirs at a time.", "N", kind=int
    )
    sniff_overflow: str = _setting(
        "ip",
        "What becomes of a connection past these bounds: ip (it is placed by its address) or"
        " close.",
        "CHOICE",
        choices=("ip", "close"),
    )
    placement: str = _setting(
        "rendezvous",
        "How keys are mapped to workers: rendezvous (a resize moves as few as can be), least (a"
        " newcomer goes to the least loaded worker, and is remembered), or modulo (as the"
        " Node.js program did: MD5 of the address).",
        "NAME",
        choices=("rendezvous", "least", "modulo"),
    )
    stick_limit: int = _setting(
        65_536,
        "How many clients the least placement remembers; those longest unseen make room.",
        "N",
        kind=int,
        least=1,
    )
    stick_timeout: float = _setting(
        3600.0,
        "How long it remembers a client after the last connection.",
        "SECONDS",
        kind=float,
        least=0.1,
    )
    steering: str = _setting(
        "handoff",
        "Who accepts: handoff (the primary, which hands each connection over), kernel (the"
        " workers, among which the kernel chooses by address; Linux, tcp: endpoints, affinity"
        " ip and placement rendezvous only), or auto (kernel where that is possible).",
        "MODE",
        choices=("handoff", "kernel", "auto"),
    )
    learn_limit: int = _setting(
        65_536,
        "How many ids of learn: entries are remembered; the least recently used make room.",
        "N",
        kind=int,
        least=1,
    )
    learn_timeout: float = _setting(
        86400.0,
        "How long each of them is, after the last connection that began with it.",
        "SECONDS",
        kind=float,
        least=1,
    )
    worker_reactor: str = _setting(
        "uvloop",
        "The workers' event loop: uvloop, asyncio or epoll.",
        "NAME",
        choices=("uvloop", "asyncio", "epoll"),
    )
    window: int = _setting(
        64,
        "How many connections may be on their way to a worker, unacknowledged.",
        "N",
        kind=int,
        least=1,
        most=250,
    )
    queue_limit: int = _setting(
        1024,
        "How many connections may wait for one worker; the next ones get the overflow answer.",
        "N",
        kind=int,
    )
    queue_timeout: float = _setting(30.0, "How long each of them may wait.", "SECONDS", kind=float)
    overflow: str = _setting(
        "auto",
        "What a connection gets that cannot be served: 503 (an HTTP answer), close or reset;"
        " auto is 503, but close with --tls or --protocol, whose clients could not read it.",
        "ANSWER",
        choices=("auto", "503", "close", "reset"),
    )
    tls: tuple[str, ...] = _setting(
        (),
        "Serve over TLS with the certificate, its chain and its key in these PEM files; the key"
        " may stand in the first one too. Repeatable: a client gets the one for the host that it"
        " asks for, else the first.",
        "CERTIFICATE[,KEY]",
        kind=tuple,
    )
    http2: str = _setting(
        "auto",
        "Whether TLS clients are offered HTTP/2: on, off, or auto (if it is installed: pip"
        " install 'stickyd[http2]'). ASGI applications are served over HTTP/1.1.",
        "MODE",
        choices=("auto", "on", "off"),
    )
    head_fields: int = _setting(
        128, "The most fields in a request head; past it 431.", "N", kind=int, least=1
    )
    body_bytes: int = _setting(
        1 << 30,
        "The longest request body, in bytes; past it 413. 0 is no limit.",
        "N",
        kind=int,
    )
    idle_timeout: float = _setting(
        75.0,
        "How long a connection may stay open without a request.",
        "SECONDS",
        kind=float,
        least=1,
    )
    head_timeout: float = _setting(
        20.0,
        "How long a request head may take from its first byte to its last; past it 408.",
        "SECONDS",
        kind=float,
        least=1,
    )
    body_timeout: float = _setting(
        60.0,
        "How long a client may pause inside a request body; past it 408.",
        "SECONDS",
        kind=float,
        least=1,
    )
    access_log: str = _setting(
        "",
        "Append a line for each request to this file, in the combined format; - is the log.",
        "PATH",
    )
    start_timeout: float = _setting(
        60.0, "How long a worker may take to get ready.", "SECONDS", kind=float, least=0.1
    )
    stop_timeout: float = _setting(
        30.0,
        "How long requests under way may take to finish at a stop.",
        "SECONDS",
        kind=float,
    )
    drain_timeout: float = _setting(
        300.0,
        "How long a relieved worker may take for streams that cannot be handed over.",
        "SECONDS",
        kind=float,
    )
    hang_timeout: float = _setting(
        30.0,
        "How long a worker may go without a heartbeat until it is killed and replaced.",
        "SECONDS",
        kind=float,
        least=0.2,
    )
    spares: int = _setting(
        0,
        "How many started workers to keep in reserve, to take a dead one's place at once.",
        "N",
        kind=int,
        most=MOST_WORKERS,
    )
    max_requests: int = _setting(
        0,
        "Replace a worker after about this many requests; 0 is never.",
        "N",
        kind=int,
    )
    max_memory: int = _setting(
        0,
        "Replace a worker that has more than this resident; 0 is never.",
        "MIB",
        kind=int,
    )
    session_idle: float = _setting(
        1800.0, "How long a session lives without a request.", "SECONDS", kind=float, least=1
    )
    session_lifetime: float = _setting(
        86400.0 * 7, "How long a session lives at most.", "SECONDS", kind=float, least=1
    )
    session_limit: int = _setting(
        100_000,
        "How many sessions one worker keeps; the least recently used ones make room.",
        "N",
        kind=int,
        least=1,
    )
    session_memory: int = _setting(
        256,
        "How much the data of one worker's sessions may take.",
        "MIB",
        kind=int,
        least=1,
    )
    control: str = _setting(
        "",
        "Answer operators on a UNIX socket at this path: python -m stickyd explain --control"
        " PATH. Only the user that the primary runs as, and root, may ask.",
        "PATH",
    )
    uid: str = _setting(
        "",
        "Run the workers as this user, by name or number; the primary must be root.",
        "USER",
    )
    gid: str = _setting("", "Run the workers as this group; by default the user's own.", "GROUP")
    heartbeat: float = _setting(
        1.0, "How often a worker reports.", "SECONDS", kind=float, least=0.05
    )
    backoff: float = _setting(
        0.25,
        "The delay after a worker's second quick death; it doubles with each further one.",
        "SECONDS",
        kind=float,
        least=0.01,
    )
    backoff_limit: float = _setting(
        30.0, "The longest such delay.", "SECONDS", kind=float, least=0.01
    )
    crash_limit: int = _setting(
        5,
        "How many workers in a row may die before they are ready until their slot gives up.",
        "N",
        kind=int,
        least=1,
    )

    def __post_init__(self) -> None:
        """
        Check what one setting demands of another.

        :raises SettingError: if they contradict each other.
        """
        given = [f"--{kind}" for kind, _ in self._applications()]
        if len(given) > 1:
            raise SettingError(f"{' and '.join(given)}: only one application can be served")
        kind = given[0] if given else "the demonstration"
        for name, kinds in _OF_ONE_KIND.items():
            if getattr(self, name) != _DEFAULTS[name] and kind not in kinds:
                raise SettingError(
                    f"--{_spelt(name)} means nothing to {kind}; it is for {' and '.join(kinds)}"
                )
        if kind in _ASGI and self.worker_reactor == "epoll":
            raise SettingError(
                f"{kind}: ASGI applications need an asyncio loop; write --worker-reactor"
                " uvloop or asyncio instead of epoll"
            )
        _check_root_path(self.root_path)
        if self.tls and self.overflow == "503":
            raise SettingError(
                "--overflow 503 is plain HTTP, which a TLS client cannot read; with --tls write"
                " --overflow close or reset"
            )
        if self.http2 == "on" and not self.tls:
            raise SettingError("--http2 on needs --tls: HTTP/2 is agreed on in the TLS handshake")
        for name in ("stick_limit", "stick_timeout"):
            if getattr(self, name) != _DEFAULTS[name] and self.placement != "least":
                raise SettingError(
                    f"--{_spelt(name)} means nothing to the {self.placement} placement; it is for"
                    " --placement least"
                )
        self._check_affinity()

    @property
    def refusal(self) -> str:
        """
        What ``overflow`` comes down to: ``503``, ``close`` or ``reset``.
        """
        if self.overflow != "auto":
            return self.overflow
        return "close" if self.tls or self.protocol else "503"

    def _check_affinity(self) -> None:
        kinds = {type(key) for key in self.keys.keys}
        if CookieKey not in kinds:
            for name in ("path", "domain", "samesite", "secure", "max_age"):
                if getattr(self, f"cookie_{name}") != _DEFAULTS[f"cookie_{name}"]:
                    raise SettingError(
                        f"--cookie-{_spelt(name)} means nothing without a cookie; write for"
                        " example --affinity cookie:stickyd,ip"
                    )
        if self.cookie_samesite == "none" and self.cookie_secure == "never":
            raise SettingError(
                "--cookie-samesite none: browsers drop such a cookie unless it is Secure; write"
                " --cookie-secure always"
            )
        for name in ("path", "domain"):
            _check_cookie_attribute(name, getattr(self, f"cookie_{name}"))
        networks = self.networks
        if self.proxy_protocol == "on" and not networks:
            raise SettingError(
                "--proxy-protocol on: nobody is trusted to say who the client is; name your"
                " proxies with --trust, for example --trust 10.0.0.0/8"
            )

    @property
    def keys(self) -> Affinity:
        """
        The list of ``--affinity``, parsed for the placement.
        """
        return parse_affinity(
            self.affinity, parse_text_key if self.placement == "modulo" else parse_ip_key
        )

    @property
    def networks(self) -> Networks:
        """
        The networks of ``--trust``.
        """
        return Networks.parse(self.trust)

    def _applications(self) -> list[tuple[str, str]]:
        return [(_spelt(kind), value) for kind in _KINDS if (value := getattr(self, kind))]

    @property
    def application(self) -> tuple[str, str] | None:
        """
        What to serve: the name of its option, as in ``asgi``, and its value; or
        :obj:`None` for the demonstration.
        """
        return next(iter(self._applications()), None)

    @classmethod
    def read(cls, given: Mapping[str, object], where: str = "--") -> Settings:
        """
        Check settings and fill in the defaults.

        :param given: values by name; a name may be spelt with ``-`` or ``_``.
        :param where: stands before a name in an error: ``--``, or a file's name.
        :raises SettingError: for an unknown name or a value out of bounds.
        """
        return cls(**read_some(given, where))

    def to_json(self) -> str:
        """
        The settings as text, for a worker.
        """
        return json.dumps(asdict(self))

    def keeping(self, former: Settings, names: frozenset[str]) -> Settings:
        """
        These settings, but for those named, which stay as they were.
        """
        return replace(self, **{name: getattr(former, name) for name in names})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """
        The opposite of :meth:`to_json`.
        """
        return cls.read({name: value for name, value in json.loads(text).items()
                         if (name, value) != ("workers", 0)})  # fmt: skip


#: The settings that name an application.
_KINDS = ("resource", "asgi", "asgi_factory", "wsgi", "static", "protocol")

_ASGI = ("--asgi", "--asgi-factory")

_RESOURCES = ("--resource", "--wsgi", "--static", "the demonstration")
_HTTP = (*_ASGI, *_RESOURCES)

#: The settings that only some kinds of applications understand.
_OF_ONE_KIND = {
    "http2": _RESOURCES,
    "head_fields": _HTTP,
    "body_bytes": _HTTP,
    "idle_timeout": _HTTP,
    "head_timeout": _HTTP,
    "body_timeout": _HTTP,
    "access_log": _HTTP,
    "root_path": (*_ASGI, "--wsgi"),
    "lifespan": _ASGI,
    "limit_concurrency": _ASGI,
    "ws_max_size": _ASGI,
    "wsgi_threads": ("--wsgi",),
}

_DEFAULTS = {f.name: f.default for f in fields(Settings)}


def _spelt(name: str) -> str:
    return name.replace("_", "-")


def _check_cookie_attribute(name: str, value: str) -> None:
    # RFC 6265, section 4.1.1: any character except controls and ";".
    if not (value.isascii() and value.isprintable()) or ";" in value:
        raise SettingError(f"--cookie-{name}: {value!r} cannot stand in a Set-Cookie header")
    if name == "path" and not value.startswith("/"):
        raise SettingError(f"--cookie-path: {value!r} does not begin with a slash; write /{value}")


def _check_root_path(path: str) -> None:
    # uvicorn encodes it as ASCII and puts it before the path as it is.
    if path and (not path.startswith("/") or path.endswith("/") or not path.isascii()):
        raise SettingError(
            f"--root-path {path}: write it in ASCII, with a slash before and none behind, as"
            " in --root-path /shop"
        )


#: What a reload cannot change: it is the primary's own, and in use.
FIXED = frozenset(
    {"listen", "workers", "affinity", "placement", "queue_limit", "queue_timeout", "overflow",
     "backoff", "backoff_limit", "crash_limit", "max_requests", "max_memory", "trust",
     "proxy_protocol", "head_bytes", "sniff_timeout", "sniff_limit", "sniff_overflow",
     "learn_limit", "learn_timeout", "steering", "stick_limit", "stick_timeout", "control"}
)  # fmt: skip


#: What a reload cannot change between some and none: clients cannot speak both on one port.
_ALL_OR_NONE = frozenset({"tls", "http2"})


def fixed(former: Settings, wanted: Settings) -> frozenset[str]:
    """
    The names of the settings that a reload must leave as they are.
    """
    return FIXED if bool(former.tls) == bool(wanted.tls) else FIXED | _ALL_OR_NONE


def changed(former: Settings, wanted: Settings) -> set[str]:
    """
    The names of the settings that differ.
    """
    return {f.name for f in fields(Settings) if getattr(former, f.name) != getattr(wanted, f.name)}


def rules() -> dict[str, tuple[_Rule, Any]]:
    """
    Each setting's name, spelt as on the command line, with its rule and its default.
    """
    return {_spelt(f.name): (f.metadata["rule"], _default(f)) for f in fields(Settings)}


def _default(f: Field[Any]) -> Any:
    assert f.default is not MISSING
    return f.default


def read_some(given: Mapping[str, object], where: str) -> dict[str, Any]:
    """
    Check settings, and leave out what is not given.

    :return: values by attribute name.
    :raises SettingError: as :meth:`Settings.read`.
    """
    known = rules()
    checked: dict[str, Any] = {}
    for name, value in given.items():
        spelt = _spelt(name)
        if spelt not in known:
            close = get_close_matches(spelt, known, 1, 0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise SettingError(f"{where}{name}: there is no such setting; {hint}")
        if spelt == "workers" and value == "auto":
            checked["workers"] = 0
            continue
        checked[spelt.replace("-", "_")] = known[spelt][0].read(spelt, value, where)
    return checked
