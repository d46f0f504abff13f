"""
A check of kernel steering on the machine and the sockets that are to be used.

What the kernel does with a group hangs on more than the program: on another process in
the group, on the order of sockets that an upgrade passed on, on the kernel itself.  So
we ask it, from addresses whose slots we know.
"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from struct import pack
from typing import TYPE_CHECKING, Any

from stickyd.affinity.address import presented
from stickyd.listen.reuseport.group import queued

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stickyd.listen.reuseport.group import Deliver, SteeredGroup

# Sockets in a wrong order put all of so many probes right about never.
_PROBES = 32
_SECONDS = 2.0


def find_disagreement(
    group: SteeredGroup, slot_of_host: Callable[[str], int], deliver: Deliver
) -> str | None:
    """
    Connect from some loopback addresses, and compare the kernel's choices with ours.

    Call it before anybody else accepts.  The probes are closed.  It blocks, for
    milliseconds if all is well, at most two seconds if not.

    :param slot_of_host: gives the slot of a client by its address as the listening
        socket reports it: what handoff steering would choose.
    :param deliver: takes clients that came in meanwhile and stood before a probe.
    :return: why kernel steering cannot be trusted here; :obj:`None` if it can.
    """
    for target, source in _probes(group.sockets[0]):
        try:
            client = _connect(target, source)
        except OSError as error:
            if source == "::1" and error.errno == errno.EADDRNOTAVAIL:
                continue  # IPv6 is off, as in many containers: no such clients either
            return f"a probe could not connect from {source} to {target[0]}: {error}"
        with client:
            reported, slot = _accept_probe(group, client.getsockname()[1], source, deliver)
        expected = slot_of_host(reported)
        if slot != expected:
            where = "on no socket of ours" if slot is None else f"on slot {slot}"
            return f"the kernel put {source} {where}; its slot is {expected} of {group.slots}"
    return None


def _probes(member: socket.socket) -> Iterator[tuple[Any, str]]:
    """
    Give addresses of ours to connect to, each with a loopback address to do it from.
    """
    host, port, *rest = member.getsockname()
    host = presented(host)  # at a mapped address, only IPv4 clients arrive
    if ":" in host:
        yield ("::1" if host == "::" else host, port, *rest), "::1"
    if host in ("::", "0.0.0.0"):
        host = "127.0.0.1"
    if ":" not in host:
        for number in range(_PROBES):
            yield (host, port), f"127.{number * 7 % 256}.{number * 101 % 256}.{number + 1}"


def _connect(target: Any, source: str) -> socket.socket:
    """
    Connect from an address of our choice.  Closing resets, and so leaves no TIME_WAIT.
    """
    with ExitStack() as on_failure:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        client = on_failure.enter_context(socket.socket(family))
        client.settimeout(_SECONDS)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        client.bind((source, 0))
        client.connect(target)
        on_failure.pop_all()
    return client


def _accept_probe(
    group: SteeredGroup, port: int, source: str, deliver: Deliver
) -> tuple[str, int | None]:
    """
    Find a probe in the queues, and close it.

    :return: its address as reported to us, and the number of the socket.
    """
    for number, listener in enumerate((*group.sockets, *group.retired)):
        for connection, peer in queued(listener):
            if peer[1] == port and peer[0].removeprefix("::ffff:") == source:
                connection.close()
                return peer[0], number
            deliver(connection, peer)
    return source, None
