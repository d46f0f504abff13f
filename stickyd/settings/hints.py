"""
What is meant by an option of another server, or by another spelling.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_TLS = "write --tls CERTIFICATE,KEY"
_HOST = "write --listen tcp:PORT:interface=ADDRESS"
_RELOAD = "leave it out, and reload by SIGHUP (kill -HUP PID)"
_LOGS = "write twistd --logfile FILE before the word stickyd"
_WHERE = "start twistd there, or set PYTHONPATH"
_KIND = "leave it out: --asgi, --wsgi and the like say what is served"
_HEAD = "write --head-bytes"
_ENVIRONMENT = "leave it out, and set twistd's environment"

#: Options of gunicorn, uvicorn, hypercorn, daphne and granian, and what does the same here.
OTHERS: Mapping[str, str] = MappingProxyType(
    {
        "bind": f"{_HOST}, or --listen unix:PATH",
        "b": f"{_HOST}, or --listen unix:PATH",
        "host": _HOST,
        "address": _HOST,
        "endpoint": "write --listen ENDPOINT",
        "uds": "write --listen unix:PATH",
        "unix-socket": "write --listen unix:PATH",
        "fd": "write --listen systemd:domain=INET:index=0",
        "backlog": "write --listen tcp:PORT:backlog=N",
        "port": "write listen = ['tcp:PORT']",
        "factory": "write --asgi-factory MODULE:ATTRIBUTE (or --wsgi-factory)",
        "app-dir": _WHERE,
        "chdir": _WHERE,
        "pythonpath": _WHERE,
        "working-dir": _WHERE,
        "worker-class": _KIND,
        "k": _KIND,
        "interface": _KIND,
        "loop": "write --worker-reactor",
        "event-loop": "write --worker-reactor",
        "threads": "write --wsgi-threads",
        "blocking-threads": "write --wsgi-threads",
        "worker-connections": "write --limit-concurrency",
        "timeout": "write --hang-timeout for a worker that hangs, --body-timeout for a client",
        "t": "write --hang-timeout for a worker that hangs, --body-timeout for a client",
        "graceful-timeout": "write --stop-timeout",
        "timeout-graceful-shutdown": "write --stop-timeout",
        "shutdown-timeout": "write --stop-timeout",
        "keep-alive": "write --idle-timeout",
        "keepalive": "write --idle-timeout",
        "timeout-keep-alive": "write --idle-timeout",
        "limit-max-requests": "write --max-requests",
        "max-requests-jitter": "leave it out: --max-requests varies by itself",
        "limit-max-requests-jitter": "leave it out: --max-requests varies by itself",
        "workers-max-rss": "write --max-memory",
        "respawn-failed-workers": "leave it out: a worker that dies is replaced",
        "preload": "leave it out: --spares N keeps workers ready that have imported all",
        "preload-app": "leave it out: --spares N keeps workers ready that have imported all",
        "ssl-certfile": _TLS,
        "ssl-keyfile": _TLS,
        "ssl-certificate": _TLS,
        "certfile": _TLS,
        "keyfile": _TLS,
        "reload": _RELOAD,
        "reload-dir": _RELOAD,
        "log-config": _LOGS,
        "log-file": _LOGS,
        "error-logfile": _LOGS,
        "access-logfile": "write --access-log FILE",
        "no-access-log": "leave it out: without --access-log there is none",
        "proxy-headers": "write --trust NETWORKS",
        "forwarded-allow-ips": "write --trust NETWORKS",
        "proxy-allow-from": "write --trust NETWORKS",
        "sticky": "leave it out: --affinity says how clients are told apart",
        "daemon": "start twistd without -n",
        "D": "start twistd without -n",
        "pid": "write twistd --pidfile FILE before the word stickyd",
        "user": "write --uid",
        "u": "write --uid",
        "group": "write --gid",
        "g": "write --gid",
        "http": "write --http2 on or off",
        "ws": "leave it out: WebSockets are served",
        "limit-request-line": _HEAD,
        "limit-request-field-size": _HEAD,
        "h11-max-incomplete-event-size": _HEAD,
        "limit-request-fields": "write --head-fields",
        "env": _ENVIRONMENT,
        "env-file": _ENVIRONMENT,
    }
)

#: Options of twistd itself, short and long.
_TWISTDS = frozenset(
    {"n", "nodaemon", "l", "logfile", "pidfile", "d", "rundir", "chroot", "umask", "syslog",
     "y", "python", "r", "reactor", "o", "euid", "profile", "originalname"}
)  # fmt: skip


def meant(name: str, known: Collection[str], config: bool = False) -> str:
    """
    What to write instead of a name that is none.

    :param known: the names that there are.
    :param config: whether it stands in a file or a program, where options have no dashes.
    :return: the end of a sentence; ``""`` if nobody knows.
    """
    spelling = name.replace("_", "-")
    if spelling in OTHERS:
        hint = OTHERS[spelling]
        return re.sub(r"--([a-z])", r"\1", hint) if config else hint
    twistds = next((own for own in (name, spelling.replace("-", "")) if own in _TWISTDS), "")
    if twistds:
        dashes = "-" if len(name) == 1 else "--"
        return (
            f"it is twistd's: write it before the word stickyd, as in"
            f" twistd {dashes}{twistds} stickyd"
        )
    begun = sorted(each for each in known if spelling and each.startswith(spelling.lower()))
    close = begun or get_close_matches(spelling.lower(), known, 1, 0.6)
    if not close or len(name) == 1:
        return ""
    quoted = [f"{each!r}" if config else f"--{each}" for each in close[:4]]
    return f"did you mean {' or '.join(quoted)}?"


def argument_meant(argument: str) -> str:
    """
    What to write instead of an argument without an option.
    """
    if argument.isdecimal():
        return f"write --port {argument}"
    if re.fullmatch(r"[\w.]+:[a-zA-Z_][\w.]*(\(\))?", argument):
        return f"write --asgi {argument} (or --wsgi, --resource, --protocol)"
    if endpoint := endpoint_meant(argument):
        return f"write --listen {endpoint}"
    if "/" in argument and not argument.endswith((".py", ".toml")):
        return f"write --static {argument} to serve a directory"
    if argument.endswith(".toml"):
        return f"write --config {argument}"
    return "options begin with --"


#: Kinds of endpoints that take connections of clients.
_KINDS = ("tcp", "tcp6", "unix", "systemd")


def endpoint_meant(text: str) -> str:
    """
    The endpoint that is meant by an address as other servers have it.

    :return: ``""`` if nobody knows.
    """
    if text.partition(":")[0] in _KINDS and "://" not in text:
        return _with_address_escaped(text)
    plain = re.sub(r"^(https?|tcp)://", "", text).rstrip("/") if "://" in text else text
    if match := re.fullmatch(r"unix:/*(/.+)|(?:uds|unix)://(.+)|(/.+)", text):
        return f"unix:{next(filter(None, match.groups()))}"
    if re.fullmatch(r"(fd|fileno)[:/]*\d+", text):
        return "systemd:domain=INET:index=0"
    if match := re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.*-]*)):(\d+)", plain):
        six, host, port = match.groups()
        if six:
            return f"tcp6:{port}:interface={_escaped(six)}"
        if host in ("http", "https") or get_close_matches(host, _KINDS, 1, 0.6):
            return f"tcp:{port}"
        if "." in host or host == "localhost":
            return f"tcp:{port}:interface={host}"
        return f"tcp:{port}" if host in ("", "*") else ""
    return f"tcp:{plain}" if plain.isdecimal() else ""


def _with_address_escaped(text: str) -> str:
    """
    Put the address of an endpoint right; empty if something else is wrong with it.
    """
    if match := re.fullmatch(r"tcp6?:(?:port=)?(\d+):interface=\[?([0-9a-fA-F:.]*:[^=\\]*?)\]?",
                             text):  # fmt: skip
        return f"tcp6:{match[1]}:interface={_escaped(match[2])}"
    if match := re.fullmatch(r"tcp6?:([\w.-]*[a-zA-Z.][\w.-]*):(\d+)", text):
        return f"tcp:{match[2]}:interface={match[1]}"
    return ""


def _escaped(address: str) -> str:
    return address.replace(":", r"\:")
