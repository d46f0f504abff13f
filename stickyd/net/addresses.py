"""
Addresses as Twisted has them, and as sockets and asyncio have them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

if TYPE_CHECKING:
    import asyncio
    from socket import socket

_new = object.__new__


def address_of(sock: socket) -> IPv4Address | IPv6Address | UNIXAddress:
    """
    Make a Twisted address of a socket's own name.
    """
    name = sock.getsockname()
    # Told apart by the names, as Python makes an enumeration's member whenever it is asked for
    # the family.
    if not isinstance(name, tuple):
        return UNIXAddress(name or None)  # a socketpair's end is called ""
    return IPv4Address("TCP", *name) if len(name) == 2 else IPv6Address("TCP", *name)


def tcp_address(host: str, port: int) -> IPv4Address | IPv6Address:
    """
    Make the address of one end of a TCP connection.
    """
    if ":" in host:
        return IPv6Address("TCP", host, port)
    # Without its constructor, whose check of our own "TCP" takes half a microsecond for every
    # connection.
    address = _new(IPv4Address)
    address.type = "TCP"
    address.host = host
    address.port = port
    return address


def local_address(local: tuple[str, int] | None) -> IPv4Address | IPv6Address | None:
    """
    Make the address that the client connected to, of host and port, if they are told.
    """
    return None if local is None else tcp_address(*local)


def name_of(address: Any) -> Any:
    """
    Make of a Twisted address what ``getpeername`` or ``getsockname`` would return.
    """
    if type(address) is IPv4Address:  # as most are
        return (address.host, address.port)
    if isinstance(address, IPv6Address):
        return (address.host, address.port, address.flowInfo, address.scopeID)
    if isinstance(address, UNIXAddress):
        return address.name or ""
    return (address.host, address.port)


class SocketView:
    """
    A connection's socket for looking at, as asyncio hands it out.

    It tells the addresses that the transport was given: behind a PROXY header, or on
    the plain side of a TLS connection, the socket's own are not the client's.
    """

    def __init__(self, sock: socket, transport: asyncio.BaseTransport) -> None:
        self._socket = sock
        self._transport = transport

    @property
    def family(self) -> int:
        return self._socket.family

    @property
    def type(self) -> int:
        return self._socket.type

    @property
    def proto(self) -> int:
        return self._socket.proto

    def fileno(self) -> int:
        return self._socket.fileno()

    def getpeername(self) -> Any:
        return self._transport.get_extra_info("peername")

    def getsockname(self) -> Any:
        return self._transport.get_extra_info("sockname")

    def getsockopt(self, *arguments: int) -> int | bytes:
        return self._socket.getsockopt(*arguments)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self._socket.setsockopt(level, option, value)
