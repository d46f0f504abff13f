"""
Where the admin endpoint and the agent check listen: loopback or a UNIX socket, unless told
otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from stickyd.errors import SettingError

_EXAMPLES = "9100, tcp:9100:interface=127.0.0.1 or unix:/run/stickyd/admin.sock"
_PARTS = re.compile(r"(?:\\.|[^:\\])+")


@dataclass(frozen=True)
class AdminPlace:
    """
    A place to listen at.

    :ivar host: an address; empty of a UNIX socket.
    :ivar port: 0 has the kernel choose one.
    :ivar path: of a UNIX socket; else empty.
    :ivar mode: what the socket's file may.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    mode: int = 0o600

    @property
    def is_private(self) -> bool:
        """
        Whether nobody on another machine gets there, nor, of a UNIX socket, another user.
        """
        if self.path:
            return not self.mode & 0o077
        return ip_address(self.host).is_loopback


def parse_admin_place(option: str, text: str, public: bool) -> AdminPlace:
    """
    Read a description: a port, or a Twisted endpoint of ``tcp:``, ``tcp6:`` or ``unix:``.

    :param option: for errors.
    :param public: whether others than the own user, on this machine, may come.
    :raises SettingError: says what to write instead.
    """
    place = _parse(option, text)
    if not place.is_private and not public:
        where = f"other users, by {place.path}" if place.path else "anybody who reaches it"
        instead = "without mode=" if place.path else "interface=127.0.0.1"
        raise SettingError(
            f"{option} {text} is open to {where}, who could see how the server is, and guess the"
            f" token that lets one change it; write {instead}, or say that it shall be so:"
            " --admin-public on"
        )
    return place


def _parse(option: str, text: str) -> AdminPlace:
    kind, *parts = [re.sub(r"\\(.)", r"\1", part) for part in _PARTS.findall(text)] or [""]
    if kind.isdigit() and not parts:
        kind, parts = "tcp", [kind]
    named = {}
    positional = []
    for part in parts:
        name, equals, value = part.partition("=")
        if equals:
            named[name] = value
        else:
            positional.append(part)
    if kind in ("tcp", "tcp6") and len(positional) + ("port" in named) == 1:
        port = named.pop("port", "") or positional[0]
        host = named.pop("interface", "127.0.0.1" if kind == "tcp" else "::1")
        if port.isdigit() and int(port) <= 65535 and not named:
            return AdminPlace(_address(option, text, host), int(port))
    if kind == "unix" and len(positional) + ("address" in named) == 1:
        path = named.pop("address", "") or positional[0]
        mode = named.pop("mode", "600")
        if re.fullmatch("[0-7]{3,4}", mode) and not named:
            return AdminPlace(path=path, mode=int(mode, 8))
    raise SettingError(f"{option} {text}: not a place to listen at; write for example {_EXAMPLES}")


def _address(option: str, text: str, host: str) -> str:
    try:
        return str(ip_address("127.0.0.1" if host == "localhost" else host))
    except ValueError:
        raise SettingError(
            f"{option} {text}: {host!r} is no address; write one of this machine's, as in"
            " interface=127.0.0.1"
        ) from None
