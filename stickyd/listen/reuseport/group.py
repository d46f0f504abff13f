"""
Kernel steering: one listening socket per slot, and a BPF program that chooses.

The sockets form a group (``SO_REUSEPORT``, socket(7)).  The kernel numbers its members
in the order in which they began to listen, and a member that stops listening leaves its
number to the *last* one (``reuseport_detach_sock``, net/core/sock_reuseport.c).  So
members come and go at the tail only, and a slot's number is its place in the group.

A connection belongs to a listening socket from its SYN on, and is reset with it.  So a
removed slot's socket goes on listening, chosen no longer, until what it had is out.
"""

from __future__ import annotations

import errno
import socket
import sys
from array import array
from contextlib import ExitStack, suppress
from struct import pack
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from stickyd.errors import ListenError, SettingError
from stickyd.listen.endpoint import explain
from stickyd.placement.bpf import compile_program
from stickyd.placement.rendezvous import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stickyd.interfaces import IPlacement
    from stickyd.placement.bpf import Instruction

Deliver: TypeAlias = "Callable[[socket.socket, Any], object]"
"""
Takes over a connection, which it closes: a non-blocking socket, and the address of its
peer as :meth:`socket.socket.accept` gives it.
"""

# <asm-generic/socket.h>; the socket module has no name for it.
SO_ATTACH_REUSEPORT_CBPF: Final = 51

BACKLOG: Final = 65_535
"""
More than any queue needs: the kernel cuts it to ``net.core.somaxconn`` (listen(2)).
"""


def require_steerable(endpoint: str, placement: IPlacement, platform: str = sys.platform) -> None:
    """
    Refuse what the kernel cannot steer.

    :param endpoint: the description of the listening endpoint, e.g. ``tcp:3000``.
    :param placement: what the clients are to be placed by.
    :param platform: :data:`sys.platform`.
    :raises SettingError: if this is not Linux, the endpoint is not plain TCP, or the
        placement is not rendezvous; the message says what to use instead.
    """
    kind = endpoint.partition(":")[0]
    if not platform.startswith("linux"):
        reason = f"it needs Linux, and this is {platform}"
    elif kind not in ("tcp", "tcp6") and not endpoint.isdecimal():
        reason = f"it needs a tcp: or tcp6: endpoint, and {endpoint!r} is none"
    elif not isinstance(placement, Rendezvous):
        reason = (
            "the kernel can compute the rendezvous placement only, "
            f"not {type(placement).__name__.lower()}"
        )
    else:
        return
    raise SettingError(f"kernel steering is impossible here: {reason}; use handoff steering")


def open_group(
    host: str, port: int, slots: int, ipv4_prefix: int, ipv6_prefix: int, backlog: int = BACKLOG
) -> SteeredGroup:
    """
    Listen with one socket per slot.

    :param host: an address, not a name.  Empty is every IPv4 address, ``::`` every
        address of both families, as with Twisted's ``tcp:`` endpoints.
    :param port: 0 lets the kernel choose.
    :param slots: 1 to 256.
    :param ipv4_prefix: how many leading bits of an IPv4 address count, 0 to 32.
    :param ipv6_prefix: the same of an IPv6 address, 0 to 128.
    :param backlog: how many connections may wait on each socket.
    :raises SettingError: if a number is outside its range.
    :raises ListenError: if the address cannot be listened on, by this or any other
        socket, or the kernel refuses the program.  Nothing is left open.
    """
    program = compile_program(slots, ipv4_prefix, ipv6_prefix)
    if not 0 <= port <= 65_535:
        raise SettingError(f"a port is 0 to 65535, not {port}")
    try:
        # Without the port: getaddrinfo would cut 70000 to 16 bits.
        found = socket.getaddrinfo(
            host or "0.0.0.0", None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror as error:
        raise ListenError(f"cannot listen on {host!r}: not an address ({error.strerror})") from None
    numeric, _port, *scope = found[0][4]
    # Alone at first: with SO_REUSEPORT the bind would also succeed beside another
    # daemon of the same user, and its listeners would shift the numbers of ours.
    members = [_listening_socket((numeric, port, *scope), backlog, shared=False)]
    try:
        _add_members(members, slots, backlog)
        _attach(members[0], program)
    except BaseException:
        _close_from_tail(members, 0)
        raise
    return SteeredGroup(members, slots, ipv4_prefix, ipv6_prefix, backlog)


class SteeredGroup:
    """
    The primary's end of kernel steering: it holds every listening socket.

    Workers get copies of the descriptors.  As the primary keeps its own, what is queued
    for a dead worker waits for the successor.

    :ivar slots: among how many sockets the kernel chooses.
    """

    def __init__(
        self,
        members: Sequence[socket.socket],
        slots: int,
        ipv4_prefix: int,
        ipv6_prefix: int,
        backlog: int = BACKLOG,
    ) -> None:
        """
        Take over a group whose program is attached: see :func:`open_group`.

        After an upgrade the members come from the process image before; then call
        :meth:`resize` with the same number, to attach this version's program.

        :param members: every listening socket of the group, in the order of their
            numbers; the group closes them.
        """
        self._members = list(members)
        self.slots = slots
        self._ipv4_prefix = ipv4_prefix
        self._ipv6_prefix = ipv6_prefix
        self._backlog = backlog

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """
        The listening sockets, one per slot, non-blocking.  The group closes them.
        """
        return tuple(self._members[: self.slots])

    @property
    def retired(self) -> tuple[socket.socket, ...]:
        """
        The listening sockets of removed slots.  The group closes them.

        The kernel chooses them no longer, but a client whose SYN came before the resize
        may still complete its handshake on one.  Accept from them, or call
        :meth:`drain_retired`, until a handshake's time has passed; then call
        :meth:`close_retired`.
        """
        return tuple(self._members[self.slots :])

    def prepare(self, slots: int) -> None:
        """
        Do what can go wrong in a :meth:`resize`: open the sockets that it needs, which are
        among :attr:`retired` until then, and have the kernel look at the program.

        :raises SettingError: as :meth:`resize`.
        :raises ListenError: as :meth:`resize`.  The group is then as it was.
        """
        program = compile_program(slots, self._ipv4_prefix, self._ipv6_prefix)
        try:
            with socket.socket(self._members[0].family) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
                _attach(trial, program)
        except OSError as error:
            raise ListenError(f"cannot open a socket: {error.strerror}") from error
        before = len(self._members)
        try:
            _add_members(self._members, slots, self._backlog)
        except BaseException:
            _close_from_tail(self._members, before)
            raise

    def resize(self, slots: int) -> None:
        """
        Add or remove slots at the tail.  No connection is lost either way.

        A removed slot's socket becomes one of :attr:`retired`; a slot that is added again
        before they are closed gets its old socket back.  Slots can be added only as the
        user who opened the group: the kernel lets nobody else's sockets join.

        :param slots: 1 to 256.
        :raises SettingError: if ``slots`` is outside that range.
        :raises ListenError: if a socket cannot be opened or the kernel refuses the
            program.  The group is then as it was.
        """
        program = compile_program(slots, self._ipv4_prefix, self._ipv6_prefix)
        before = len(self._members)
        try:
            _add_members(self._members, slots, self._backlog)
            # Members added above were never chosen; those removed are not from here on.
            _attach(self._members[0], program)
        except BaseException:
            _close_from_tail(self._members, before)
            raise
        self.slots = slots

    def drain_retired(self, deliver: Deliver) -> None:
        """
        Accept what is queued for removed slots.

        :param deliver: takes each connection, to the slot that owns its client now.
        :raises OSError: if no more can be accepted, for want of descriptors say.  What
            was not delivered is queued still, so call it again later.
        """
        for listener in self.retired:
            for connection, peer in queued(listener):
                deliver(connection, peer)

    def close_retired(self, deliver: Deliver) -> None:
        """
        End the sockets of removed slots, for workers that hold copies of them too.

        A worker's ``accept`` then fails with :data:`errno.EINVAL`.

        :param deliver: takes the last connections, as with :meth:`drain_retired`.
        :raises OSError: as :meth:`drain_retired` does; the sockets are open still.
        """
        self.drain_retired(deliver)
        for listener in reversed(self.retired):
            # close alone would leave the socket in the group while a worker holds a
            # copy, and the next slot to be added would not get its number.
            listener.shutdown(socket.SHUT_RD)
        _close_from_tail(self._members, self.slots)

    def withdraw(self, deliver: Deliver) -> None:
        """
        Stop listening, with workers' copies too, and close.

        :param deliver: takes what is queued; for want of descriptors some may be reset.
        """
        while self._members:
            with suppress(OSError):
                for connection, peer in queued(self._members[-1]):
                    deliver(connection, peer)
            # From the tail, so that those before keep their numbers; what the program
            # chooses beyond them the kernel gives to one of them.
            with suppress(OSError):  # somebody else may have done it
                self._members[-1].shutdown(socket.SHUT_RD)
            self._members.pop().close()

    def close(self) -> None:
        """
        Close the primary's copies.  Workers' copies go on listening.
        """
        _close_from_tail(self._members, 0)


def _listening_socket(address: Any, backlog: int, *, shared: bool) -> socket.socket:
    """
    Listen on an address, as a member of its group.

    :param shared: whether the other members may be there already.
    """
    family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
    try:
        with ExitStack() as on_failure:
            listener = on_failure.enter_context(socket.socket(family))
            listener.setblocking(False)
            # Or a restart would wait a minute for the TIME_WAIT of the run before.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
            listener.bind(address)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
            listener.listen(backlog)
            on_failure.pop_all()
    except OSError as error:
        raise explain(f"{address[0]}, port {address[1]}", error) from error
    return listener


def _add_members(members: list[socket.socket], number: int, backlog: int) -> None:
    """
    Open sockets at the tail until there are ``number``.
    """
    address = members[0].getsockname()
    while len(members) < number:
        members.append(_listening_socket(address, backlog, shared=True))


def _close_from_tail(members: list[socket.socket], number: int) -> None:
    """
    Close sockets at the tail until there are ``number``.
    """
    while len(members) > number:
        members.pop().close()


def _attach(member: socket.socket, program: list[Instruction]) -> None:
    """
    Make a program the one that chooses among a group's members.
    """
    filters = array("B", b"".join(instruction.pack() for instruction in program))
    # struct sock_fprog of <linux/filter.h>; the kernel copies what it points to.
    fprog = pack("HP", len(program), filters.buffer_info()[0])
    try:
        member.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, fprog)
    except OSError as error:
        hint = "use handoff steering"
        if error.errno == errno.ENOMEM:
            hint = f"raise the sysctl net.core.optmem_max, have fewer slots, or {hint}"
        raise ListenError(
            f"the kernel refuses the steering program of {len(program)} instructions: "
            f"{error.strerror}; {hint}"
        ) from error


def queued(listener: socket.socket) -> Iterator[tuple[socket.socket, Any]]:
    """
    Accept, non-blocking, what is queued now.
    """
    while True:
        try:
            connection, peer = listener.accept()
        except BlockingIOError:
            return
        except ConnectionAbortedError:
            continue  # the client gave up in the queue; behind it may be others
        connection.setblocking(False)
        yield connection, peer
