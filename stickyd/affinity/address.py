"""
Who the client is, by address: the ``ip`` key, and the networks that are trusted.

A host is the text that the listening socket reports for its peer: ``192.0.2.7``,
``2001:db8::7``, ``::ffff:192.0.2.7`` (an IPv4 client of a dual-stack socket),
``fe80::7%eth0``, or ``""`` for a peer on a UNIX socket, which has no address.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from stickyd.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX_KEY = b"unix:"
"""
The key of every peer on a UNIX socket: they cannot be told apart, so they share one
slot.  Five bytes, which no address has.
"""

MEMO = 8192
"""
How many addresses a key or a list of networks remembers: about 1 MB, and a client
that rotates its addresses can only push out others, at the cost of a parse.
"""

_PREFIXES = re.compile(r"ip(?:/([0-9]{1,3}))?(?:/([0-9]{1,3}))?", re.ASCII)


def unmapped(address: IPAddress) -> IPAddress:
    """
    Give the IPv4 address that an IPv4-mapped address carries, and any other as it is.
    """
    if address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_address(text: str) -> IPAddress:
    """
    Parse an address; an IPv4-mapped one is the IPv4 address that it carries.

    :raises ValueError: if it is not an IPv4 or IPv6 address.
    """
    return unmapped(ipaddress.ip_address(text))


@lru_cache(MEMO)
def presented(host: str) -> str:
    """
    Give the host as the application should see it.

    An IPv4 client of a dual-stack socket becomes plain IPv4; everything else stays.
    """
    if "ffff:" not in host.lower():  # spares the parse: every mapped address has it
        return host
    try:
        address = parse_address(host)
    except ValueError:
        return host
    return str(address) if address.version == 4 else host


def _network_of(host: str, ipv4_prefix: int, ipv6_prefix: int) -> IPAddress:
    """
    Mask an address.  Through the integer, because ``ip_network`` costs three times as much.
    """
    address = parse_address(host)
    if address.version == 4:
        return ipaddress.IPv4Address(int(address) >> (32 - ipv4_prefix) << (32 - ipv4_prefix))
    return ipaddress.IPv6Address(int(address) >> (128 - ipv6_prefix) << (128 - ipv6_prefix))


@dataclass(frozen=True)
class IpKey:
    """
    The ``ip`` entry: the network that the client's address lies in.

    :ivar ipv4_prefix: 1 to 32, how many leading bits of an IPv4 address count.
    :ivar ipv6_prefix: 1 to 128, the same of an IPv6 address.  64 by default, since a
        client owns (and rotates through) at least a /64, RFC 8981.
    :ivar key_of: takes a host and gives its key: the masked address, packed, 4 bytes
        for IPv4 (IPv4-mapped too) and 16 for IPv6 (the scope id does not count), or
        :data:`UNIX_KEY`.  Raises :exc:`ValueError` if the host is no address.  It is
        a bounded memo, because the primary asks it for every connection.
    """

    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    key_of: Callable[[str], bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_of", lru_cache(MEMO)(self._compute))

    def _compute(self, host: str) -> bytes:
        if not host:
            return UNIX_KEY
        return _network_of(host, self.ipv4_prefix, self.ipv6_prefix).packed

    def __str__(self) -> str:
        return f"ip/{self.ipv4_prefix}/{self.ipv6_prefix}"


@dataclass(frozen=True)
class TextKey:
    """
    The ``ip`` entry for the ``modulo`` placement, which hashes the address as text.

    Without a prefix length the host counts exactly as the socket reports it, scope id
    and ``::ffff:`` included, because that is what Node's ``socket.remoteAddress`` gives.

    :ivar ipv4_prefix: if given, an IPv4 address (an IPv4-mapped one too) counts as
        the text of its network address: ``192.0.2.0``.
    :ivar ipv6_prefix: the same for IPv6.
    :ivar key_of: as in :class:`IpKey`.
    """

    ipv4_prefix: int | None = None
    ipv6_prefix: int | None = None
    key_of: Callable[[str], bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_of", lru_cache(MEMO)(self._compute))

    def _compute(self, host: str) -> bytes:
        if not host:
            return UNIX_KEY
        address = parse_address(host)
        prefix = self.ipv4_prefix if address.version == 4 else self.ipv6_prefix
        if prefix is None:
            return host.encode("utf-8")
        return str(_network_of(host, prefix, prefix)).encode("ascii")

    def __str__(self) -> str:
        if self.ipv6_prefix is not None:
            return f"ip/{self.ipv4_prefix}/{self.ipv6_prefix}"
        return "ip" if self.ipv4_prefix is None else f"ip/{self.ipv4_prefix}"


def _parse_prefixes(text: str) -> tuple[int | None, int | None]:
    """
    Parse ``ip``, ``ip/V4`` or ``ip/V4/V6``.

    The second separator is a slash too, because a comma ends an entry of ``--affinity``.
    """
    match = _PREFIXES.fullmatch(text)
    if match is None:
        raise SettingError(
            f"--affinity: {text!r} is not an ip key; write ip, ip/24 (IPv4 prefix length) "
            "or ip/24/56 (IPv4 and IPv6 prefix lengths)"
        )
    lengths = []
    for family, digits, longest in zip(("IPv4", "IPv6"), match.groups(), (32, 128), strict=True):
        length = None if digits is None else int(digits)
        if length == 0:
            raise SettingError(
                f"--affinity: {text!r}: with an {family} prefix length of 0 every {family} client "
                f"has the same key, so one worker serves them all; write 1 to {longest}"
            )
        if length is not None and length > longest:
            raise SettingError(
                f"--affinity: {text!r}: an {family} prefix length is 1 to {longest}, not {length}"
            )
        lengths.append(length)
    return lengths[0], lengths[1]


def parse_ip_key(text: str) -> IpKey:
    """
    Parse the ``ip`` entry of ``--affinity``: ``ip``, ``ip/24`` or ``ip/24/56``.

    A length that is not given has :class:`IpKey`'s default.

    :raises SettingError: if it is none of these, or a length is out of range.
    """
    ipv4_prefix, ipv6_prefix = _parse_prefixes(text)
    return IpKey(
        IpKey.ipv4_prefix if ipv4_prefix is None else ipv4_prefix,
        IpKey.ipv6_prefix if ipv6_prefix is None else ipv6_prefix,
    )


def parse_text_key(text: str) -> TextKey:
    """
    Parse the ``ip`` entry as :func:`parse_ip_key` does, for the ``modulo`` placement.

    :raises SettingError: as :func:`parse_ip_key`.
    """
    return TextKey(*_parse_prefixes(text))
