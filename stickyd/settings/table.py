"""
Every setting, with its default and its bounds, in one table.

The command line, the configuration file and an embedding application all arrive here;
what comes out is frozen and valid.  What an operator reads of a setting stands in
:mod:`stickyd.settings.help`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stickyd.affinity.address import parse_ip_key, parse_text_key
from stickyd.affinity.spec import parse_affinity, split_entries
from stickyd.affinity.trust import Networks
from stickyd.errors import SettingError
from stickyd.settings.consistency import check, spelt
from stickyd.settings.help import HELP
from stickyd.settings.hints import meant
from stickyd.settings.values import choice, seconds, text, texts, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stickyd.affinity.spec import Affinity
    from stickyd.settings.values import Rule

#: More slots than this do not fit into one classic BPF program (DESIGN: 4,096 instructions).
MOST_WORKERS = 256

#: The settings that name an application.
KINDS = ("resource", "asgi", "asgi_factory", "wsgi", "wsgi_factory", "static", "protocol")


@dataclass(frozen=True)
class Settings:
    """
    What the operator decided; every value is checked.

    Times are in seconds.  Make one with :meth:`read`; the constructor checks only what
    concerns several settings at once.
    """

    listen: tuple[str, ...] = texts(("tcp:3000",), "ENDPOINT")
    workers: int = whole(0, least=1, most=MOST_WORKERS)
    resource: str = text("", "MODULE:ATTRIBUTE")
    asgi: str = text("", "MODULE:ATTRIBUTE")
    asgi_factory: str = text("", "MODULE:ATTRIBUTE")
    wsgi: str = text("", "MODULE:ATTRIBUTE")
    wsgi_factory: str = text("", "MODULE:ATTRIBUTE")
    static: str = text("", "DIRECTORY")
    static_dotfiles: str = choice("off", "on")
    protocol: str = text("", "MODULE:ATTRIBUTE")
    root_path: str = text("", "PATH")
    lifespan: str = choice("auto", "on", "off")
    limit_concurrency: int = whole(0)
    ws_max_size: int = whole(16 * 1024 * 1024, least=1)
    wsgi_threads: int = whole(64, least=1, most=1000)
    wsgi_queue: int = whole(1024)
    request_timeout: float = seconds(300.0)
    affinity: tuple[str, ...] = texts(("ip",), "KEY,...", split=split_entries)
    secret_file: str = text("", "PATH")
    cookie_path: str = text("/", "PATH")
    cookie_domain: str = text("", "DOMAIN")
    cookie_samesite: str = choice("lax", "strict", "none")
    cookie_secure: str = choice("auto", "always", "never")
    cookie_max_age: int = whole(0, "SECONDS")
    trust: tuple[str, ...] = texts((), "NETWORKS", split=lambda text: text.split(","))
    proxy_protocol: str = choice("off", "on")
    head_bytes: int = whole(32768, "BYTES", least=64, most=65536)
    sniff_timeout: float = seconds(10.0, least=0.1)
    sniff_limit: int = whole(1024)
    sniff_overflow: str = choice("ip", "close", metavar="CHOICE")
    placement: str = choice("rendezvous", "least", "modulo", metavar="NAME")
    stick_limit: int = whole(65_536, least=1)
    stick_timeout: float = seconds(3600.0, least=0.1)
    steering: str = choice("handoff", "kernel", "auto")
    learn_limit: int = whole(65_536, least=1)
    learn_timeout: float = seconds(86400.0, least=1)
    worker_reactor: str = choice("uvloop", "asyncio", "epoll", metavar="NAME")
    window: int = whole(64, least=1, most=250)
    queue_limit: int = whole(1024)
    queue_timeout: float = seconds(30.0)
    overflow: str = choice("auto", "503", "close", "reset", metavar="ANSWER")
    tls: tuple[str, ...] = texts((), "CERTIFICATE[,KEY]")
    http2: str = choice("auto", "on", "off")
    head_fields: int = whole(128, least=1)
    body_bytes: int = whole(1 << 30)
    form_bytes: int = whole(32 << 20)
    idle_timeout: float = seconds(75.0, least=1)
    head_timeout: float = seconds(20.0, least=1)
    body_timeout: float = seconds(60.0, least=1)
    access_log: str = text("", "PATH")
    start_timeout: float = seconds(60.0, least=0.1)
    stop_timeout: float = seconds(30.0)
    drain_timeout: float = seconds(300.0)
    max_leaving: int = whole(2, least=1)
    hang_timeout: float = seconds(30.0, least=0.2)
    spares: int = whole(0, most=MOST_WORKERS)
    max_requests: int = whole(0)
    max_memory: int = whole(0, "MIB")
    session_idle: float = seconds(1800.0, least=1)
    session_lifetime: float = seconds(86400.0 * 7, least=1)
    session_limit: int = whole(100_000, least=1)
    session_memory: int = whole(256, "MIB", least=1)
    control: str = text("", "PATH")
    uid: str = text("", "USER")
    gid: str = text("", "GROUP")
    heartbeat: float = seconds(1.0, least=0.05)
    backoff: float = seconds(0.25, least=0.01)
    backoff_limit: float = seconds(30.0, least=0.01)
    crash_limit: int = whole(5, least=1)

    def __post_init__(self) -> None:
        """
        Check what one setting demands of another.

        :raises SettingError: if they contradict each other.
        """
        check(self, {f.name for f in fields(self) if getattr(self, f.name) != f.default})

    @property
    def refusal(self) -> str:
        """
        What ``overflow`` comes down to: ``503``, ``close`` or ``reset``.
        """
        if self.overflow != "auto":
            return self.overflow
        return "close" if self.tls or self.protocol else "503"

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

    @property
    def applications(self) -> list[tuple[str, str]]:
        """
        The options that name an application, as in ``asgi-factory``, with their values.
        """
        return [(spelt(kind), value) for kind in KINDS if (value := getattr(self, kind))]

    @property
    def application(self) -> tuple[str, str] | None:
        """
        What to serve: the name of its option, as in ``asgi``, and its value; or
        :obj:`None` for the demonstration.
        """
        return next(iter(self.applications), None)

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

    def keeping(self, former: Settings, names: Iterable[str]) -> Settings:
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


#: What a reload cannot change, as it is the primary's own and in use, and what can.
FIXED: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(
        ("listen", "workers", "affinity", "placement", "queue_limit", "queue_timeout", "backoff",
         "backoff_limit", "max_requests", "max_memory", "trust", "proxy_protocol", "head_bytes",
         "sniff_timeout", "sniff_limit", "sniff_overflow", "learn_limit", "learn_timeout",
         "stick_limit", "stick_timeout", "control"),
        "upgrade",
    )
    | {"steering": "restart"}
)  # fmt: skip


#: What cannot change between some and none while clients are served: they cannot speak both
#: on one port.
_ALL_OR_NONE: Mapping[str, str] = MappingProxyType({"tls": "restart", "http2": "restart"})


def fixed(former: Settings, wanted: Settings) -> Mapping[str, str]:
    """
    The settings that a reload must leave as they are: their names, and what changes them.
    """
    if bool(former.tls) == bool(wanted.tls):
        return FIXED
    return {**FIXED, **_ALL_OR_NONE}


def changed(former: Settings, wanted: Settings) -> set[str]:
    """
    The names of the settings that differ.
    """
    return {f.name for f in fields(Settings) if getattr(former, f.name) != getattr(wanted, f.name)}


_RULES: Mapping[str, tuple[Rule, Any]] = MappingProxyType(
    {
        spelt(f.name): (replace(f.metadata["rule"], help=HELP[f.name]), f.default)
        for f in fields(Settings)
    }
)


def rules() -> Mapping[str, tuple[Rule, Any]]:
    """
    Each setting's name, spelt as on the command line, with its rule and its default.
    """
    return _RULES


def read_some(given: Mapping[str, object], where: str) -> dict[str, Any]:
    """
    Check settings, and leave out what is not given.

    :return: values by attribute name.
    :raises SettingError: as :meth:`Settings.read`.
    """
    known = rules()
    checked: dict[str, Any] = {}
    for name, value in given.items():
        spelling = spelt(str(name))
        if spelling not in known:
            raise SettingError(f"{where}{name}: there is no such setting; {_hint(name, value)}")
        if spelling == "workers" and value == "auto":
            checked["workers"] = 0
            continue
        checked[spelling.replace("-", "_")] = known[spelling][0].read(spelling, value, where)
    return checked


def _hint(name: str, value: object) -> str:
    if isinstance(value, dict):
        return f"settings stand in no table: leave out [{name}]"
    if str(name).lower() == "port":
        return f"write listen = ['tcp:{value}']"
    return meant(str(name), rules(), config=True) or f"known are {', '.join(rules())}"
