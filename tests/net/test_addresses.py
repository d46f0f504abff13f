from __future__ import annotations

import socket

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from stickyd.net.addresses import address_of, name_of


def test_ipv4() -> None:
    """
    An IPv4 socket's name becomes an IPv4Address and back.
    """
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = address_of(sock)
        assert address == IPv4Address("TCP", *sock.getsockname())
        assert name_of(address) == sock.getsockname()


def test_ipv6() -> None:
    """
    An IPv6 socket's four parts survive.
    """
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        address = address_of(sock)
        assert isinstance(address, IPv6Address)
        assert address.host == "::1"
        assert name_of(address) == sock.getsockname()


def test_unix() -> None:
    """
    An unnamed UNIX socket has the name "" for sockets and None for Twisted.
    """
    one, other = socket.socketpair()
    assert address_of(one) == UNIXAddress(None)
    assert name_of(UNIXAddress(None)) == ""
    assert name_of(UNIXAddress(b"/run/x")) == b"/run/x"
    one.close()
    other.close()
