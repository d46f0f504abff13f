"""
Addresses as Twisted has them, and as sockets have them.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

if TYPE_CHECKING:
    from socket import socket


def address_of(sock: socket) -> IPv4Address | IPv6Address | UNIXAddress:
    """
    Make a Twisted address of a socket's own name.
    """
    name = sock.getsockname()
    if sock.family == AF_INET:
        return IPv4Address("TCP", *name)
    if sock.family == AF_INET6:
        return IPv6Address("TCP", *name)
    return UNIXAddress(name or None)  # a socketpair's end is called ""


def name_of(address: Any) -> Any:
    """
    Make of a Twisted address what ``getpeername`` or ``getsockname`` would return.
    """
    if isinstance(address, IPv6Address):
        return (address.host, address.port, address.flowInfo, address.scopeID)
    if isinstance(address, UNIXAddress):
        return address.name or ""
    return (address.host, address.port)
