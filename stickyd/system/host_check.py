"""
What an operator should know of the machine and of the settings, beyond what is refused: a line
each, with what to do.
"""

from __future__ import annotations

import ipaddress
import os
import resource
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stickyd.affinity.keys import CookieKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stickyd.settings import Settings

#: Fewer open files, and a shorter queue of the kernel's, are soon used up.
FEW_FILES = 4096
SHORT_QUEUE = 1024

#: Cookies that frameworks and others set by themselves.
FRAMEWORKS = {
    "session": "Flask and Starlette",
    "sessionid": "Django",
    "csrftoken": "Django",
    "TWISTED_SESSION": "twisted.web",
    "JSESSIONID": "Java servers",
    "PHPSESSID": "PHP",
    "connect.sid": "Express",
}


@dataclass(frozen=True)
class Host:
    """
    What of this machine is of interest.

    :ivar files: the hard limit of open files.
    :ivar queue: ``net.core.somaxconn``; :obj:`None` where there is none.
    :ivar migrates: ``net.ipv4.tcp_migrate_req``; the same.
    """

    files: int
    queue: int | None
    migrates: int | None

    @classmethod
    def here(cls) -> Host:
        """
        Look at this machine.
        """
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = 2**63 if hard == resource.RLIM_INFINITY else hard
        return cls(files, _number("core/somaxconn"), _number("ipv4/tcp_migrate_req"))


def _number(name: str) -> int | None:
    try:
        return int(Path("/proc/sys/net", name).read_text())
    except (OSError, ValueError):
        return None


def findings(settings: Settings, host: Host) -> list[str]:
    """
    Say what should be looked after.
    """
    return [*_of_host(settings, host), *_of_clients(settings), *_of_access(settings)]


def _of_host(settings: Settings, host: Host) -> Iterator[str]:
    if host.files < FEW_FILES:
        yield (
            f"the limit of open files is {host.files}, and each connection takes one: raise it"
            " (LimitNOFILE=65536, ulimit -Hn)"
        )
    if host.queue is not None and host.queue < SHORT_QUEUE:
        yield (
            f"net.core.somaxconn is {host.queue}, so a burst of connections finds no room: sysctl"
            " -w net.core.somaxconn=4096"
        )
    if host.migrates == 0 and settings.steering != "handoff":
        yield (
            f"net.ipv4.tcp_migrate_req is 0, so with --steering {settings.steering} connections"
            " that wait for a worker whose slot is taken away are reset: sysctl -w"
            " net.ipv4.tcp_migrate_req=1"
        )


def _of_clients(settings: Settings) -> Iterator[str]:
    for key in settings.keys.keys:
        if isinstance(key, CookieKey) and key.name in FRAMEWORKS:
            yield (
                f"--affinity cookie:{key.name}: {FRAMEWORKS[key.name]} set a cookie of that name"
                " themselves; write a name of its own, as in cookie:stickyd"
            )
    peeked = [key for key in settings.keys.keys if not str(key).startswith(("ip", "sni"))]
    if settings.protocol and peeked:
        yield (
            f"--affinity {peeked[0]} with --protocol: the client has to speak first; where the"
            f" server does, as in SMTP, each connection waits {settings.sniff_timeout:g} s for it:"
            " write --affinity ip"
        )
    for entry in settings.trust:
        try:
            network = ipaddress.ip_network(entry.strip(), strict=False)
        except ValueError:
            continue  # a word such as unix
        if network.prefixlen == 0:
            yield (
                f"--trust {entry}: everybody may say who they are, and so reach any worker; name"
                " your proxies alone"
            )


def _of_access(settings: Settings) -> Iterator[str]:
    files = {
        "secret-file": settings.secret_file,
        "session-key-file": settings.session_key_file,
        "admin-token-file": settings.admin_token_file,
    }
    for option, path in files.items():
        try:
            mode = os.stat(path).st_mode if path else 0
        except OSError:
            continue  # which is told by whoever reads it
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            yield f"--{option} {path}: any user of this machine has it: chmod 600 {path}"
    if settings.admin and settings.admin_public == "on":
        yield (
            "--admin-public on: other machines reach the admin endpoint; let a firewall keep all"
            " out but yours, or write an address of loopback and an SSH tunnel"
        )
