"""
Whose word counts: the networks of ``--trust``.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from stickyd.affinity.address import MEMO, parse_address
from stickyd.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stickyd.affinity.address import IPNetwork

_INSTEAD = {
    "*": "0.0.0.0/0,::/0,unix, which trusts everybody",
    "all": "0.0.0.0/0,::/0,unix, which trusts everybody",
    "localhost": "127.0.0.0/8,::1",
    "unix:": "unix",
}


@dataclass(frozen=True)
class Networks:
    """
    A set of peers: ``host in networks``.

    IPv4 and IPv6 are apart: an IPv4-mapped address is the IPv4 address that it
    carries, so ``::/0`` does not hold it and ``0.0.0.0/0`` does.  Text that is no
    address is in no network.

    :ivar networks: the networks.
    :ivar unix: whether peers on a UNIX socket (empty host) belong to it.
    """

    networks: tuple[IPNetwork, ...] = ()
    unix: bool = False
    _memo: Callable[[str], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_memo", lru_cache(MEMO)(self._compute))

    def _compute(self, host: str) -> bool:
        if not host:
            return self.unix
        try:
            address = parse_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.networks)

    def __contains__(self, host: str) -> bool:
        return self._memo(host)

    def __bool__(self) -> bool:
        return self.unix or bool(self.networks)

    def __str__(self) -> str:
        return ",".join([str(network) for network in self.networks] + ["unix"] * self.unix)

    @classmethod
    def parse(cls, value: str | Iterable[str], setting: str = "--trust") -> Networks:
        """
        Parse a list such as ``10.0.0.0/8,::1,unix``.  The empty list trusts nobody.

        :param value: the list, comma-separated or already split.
        :param setting: the name of the setting, for the error's message.
        :raises SettingError: if an entry is neither a network, an address nor ``unix``.
        """
        entries = value.split(",") if isinstance(value, str) else value
        networks = []
        unix = False
        for entry in filter(None, map(str.strip, entries)):
            if entry == "unix":
                unix = True
            else:
                networks.append(_parse_network(entry, setting))
        return cls(tuple(networks), unix)


def _parse_network(entry: str, setting: str) -> IPNetwork:
    """
    Parse one network; an IPv4-mapped one becomes the IPv4 network.
    """
    try:
        network = ipaddress.ip_network(entry)
    except ValueError:
        raise SettingError(f"{setting}: {_complaint(entry)}") from None
    if network.version == 6 and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def _complaint(entry: str) -> str:
    """
    Say what is wrong with an entry, and the nearest entry that would do.
    """
    if entry.lower() in _INSTEAD:
        return f"{entry!r} is not a network; write {_INSTEAD[entry.lower()]}"
    address, _, length = entry.partition("/")
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return (
            f"{entry!r} is neither an address nor a network nor 'unix'; "
            "write for example 10.0.0.0/8, 192.0.2.7, 2001:db8::/32 or unix"
        )
    try:
        meant = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        longest = 32 if version == 4 else 128
        return (
            f"{entry!r}: {length!r} is not an IPv{version} prefix length, which is 0 to {longest}; "
            f"write {address} for the one address"
        )
    return (
        f"{entry!r} has bits set behind its prefix length; write {meant} for the network, "
        f"or {address} for the one address"
    )
