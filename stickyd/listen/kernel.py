"""
Kernel steering in the service of a fleet: which worker accepts from which socket.

Theory of operation.  Each address that is listened on has a group of sockets, one per
slot, among which the kernel chooses (:mod:`stickyd.listen.steering`).  The worker that
occupies a slot is entrusted with the slot's sockets and accepts by itself.  The primary
keeps them all, so while a slot has no worker its clients wait there.

From every other socket the primary accepts: from those of slots that have failed or are
drained, and of removed ones as long as somebody may still arrive there.  Those clients
are placed by their key and handed over, as all clients are without kernel steering.  A
worker does the same with a client that the kernel put where, by now, another slot is due.
So however the two are out of step for a moment, each client gets to the slot that its key
has at that moment.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.affinity.address import IpKey
from stickyd.affinity.spec import parse_affinity
from stickyd.errors import ListenError, SettingError
from stickyd.handoff.accept import PAUSE, AcceptLoop
from stickyd.handoff.frame import Handoff, Purpose
from stickyd.interfaces import ISteering
from stickyd.listen.endpoint import parse_endpoint
from stickyd.listen.probe import find_disagreement
from stickyd.listen.steering import BACKLOG, SteeredGroup, open_group, require_steerable
from stickyd.placement.choice import PLACEMENTS
from stickyd.placement.rendezvous import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.slot import Slot
    from stickyd.interfaces import IReadiness
    from stickyd.settings import Settings

HANDSHAKE_SECONDS: Final = 65.0
"""
How long a client may still arrive on a socket that is chosen no longer: the kernel sends
its SYN-ACK again for 63 s (tcp(7), ``tcp_synack_retries`` of 5).
"""


def require_kernel(settings: Settings) -> IpKey:
    """
    Refuse settings that the kernel cannot steer by.

    :return: the key that it steers by.
    :raises SettingError: says what to change.
    """
    # Whatever stands behind the address is never asked, as every client has one.
    key = parse_affinity(settings.affinity).keys[0]
    if not isinstance(key, IpKey):
        raise SettingError(
            "kernel steering is impossible here: the kernel knows of a client only the address,"
            f" not {key}; use handoff steering, or --affinity ip"
        )
    if settings.placement not in PLACEMENTS:
        raise SettingError(
            "kernel steering is impossible here: the kernel can compute the rendezvous"
            f" placement only, not {settings.placement}; use handoff steering"
        )
    for description in settings.listen:
        require_steerable(description, PLACEMENTS[settings.placement](1))
    return key


class _Asked:
    """
    Stands for a reactor, and keeps what an endpoint asks of it.
    """

    def listenTCP(  # noqa: N802 (the endpoint calls it)
        self, port: int, factory: object, backlog: int = 50, interface: str = ""
    ) -> None:
        self.address = interface, port
        self.backlog = backlog


def listening_address(description: str) -> tuple[str, int, int]:
    """
    Read a ``tcp:`` or ``tcp6:`` endpoint description.

    :return: interface, port, and how many connections may wait.
    :raises SettingError: as :func:`stickyd.listen.endpoint.parse_endpoint`.
    """
    asked = _Asked()
    parse_endpoint(asked, description).listen(Factory())
    return *asked.address, asked.backlog if "backlog=" in description else BACKLOG


def open_checked_group(
    description: str,
    key: IpKey,
    slots: int,
    accepted: Callable[[int, str, int], None],
) -> SteeredGroup:
    """
    Listen on an endpoint's address with one socket per slot, and check that the kernel
    chooses among them as the placement does.

    :param accepted: takes descriptor, host and port of a client that comes meanwhile.
    :raises ListenError: if it cannot be, or the kernel chooses otherwise; nothing is left
        open.
    """
    host, port, backlog = listening_address(description)
    group = open_group(host, port, slots, key.ipv4_prefix, key.ipv6_prefix, backlog)
    slot_of = Rendezvous(slots).slot_of
    deliver = _taken_apart(accepted)
    reason = find_disagreement(group, lambda host: slot_of(key.key_of(host)), deliver)
    if reason:
        group.withdraw(deliver)
        raise ListenError(
            f"{description}: kernel steering does not work here: {reason}; use handoff steering"
        )
    return group


def _taken_apart(accepted: Callable[[int, str, int], None]) -> Callable[[Any, Any], None]:
    return lambda connection, peer: accepted(connection.detach(), peer[0], peer[1])


@implementer(ISteering)
class KernelSteering:
    """
    Keeps the groups in step with the fleet.

    :ivar groups: by endpoint description.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        readiness: IReadiness,
        groups: dict[str, SteeredGroup],
        accepted: Callable[[int, str, int], None],
    ) -> None:
        """
        :param groups: closed by :meth:`stop`.
        :param accepted: takes descriptor, host and port of each connection that the
            primary accepts.
        """
        self._clock = clock
        self._readiness = readiness
        self.groups = groups
        self._accepted = accepted
        self._slots: Sequence[Slot] = ()
        self._standing: frozenset[int] = frozenset()
        self._loops: dict[socket.socket, AcceptLoop] = {}
        self._retiring: IDelayedCall | None = None

    # ISteering

    def prepare(self, slots: int) -> str:
        try:
            for group in self.groups.values():
                group.prepare(slots)
        except (ListenError, SettingError) as problem:
            return str(problem)
        return ""

    def placed(self, slots: Sequence[Slot], standing: Sequence[int]) -> None:
        for group in self.groups.values():
            if group.slots != len(slots):
                self._resize(group, len(slots))
        anew = [index for index in standing if index not in self._standing]
        self._slots, self._standing = slots, frozenset(standing)
        self._accept_from_the_rest()
        self._retire_later(HANDSHAKE_SECONDS)
        for index in anew:
            courier = slots[index].courier
            if courier is not None:
                self._entrust(slots[index])
                courier.accept()

    def _resize(self, group: SteeredGroup, slots: int) -> None:
        try:
            group.resize(slots)
        except ListenError as problem:
            # It was tried before, so this is as good as impossible; and still nobody is
            # misplaced, as workers send on whom the kernel puts where he does not belong.
            self._log.critical("The kernel does not follow: {problem}", problem=problem)

    def occupied(self, slot: Slot) -> None:
        # Otherwise it is placed first, and then entrusted by that.
        if slot.index in self._standing:
            self._entrust(slot)

    def _entrust(self, slot: Slot) -> None:
        courier = slot.courier
        assert courier is not None
        for group in self.groups.values():
            if slot.index >= group.slots:
                continue
            try:
                descriptor = os.dup(group.sockets[slot.index].fileno())
            except OSError:
                self._clock.callLater(PAUSE, self._entrust_yet, slot, courier)
                return
            placed = b"%d" % len(self._slots)
            courier.entrust(Handoff(descriptor, "", 0, b"", placed, slot.index, Purpose.LISTENER))

    def _entrust_yet(self, slot: Slot, courier: object) -> None:
        if slot.courier is courier and slot.index in self._standing:
            self._entrust(slot)

    # what no worker accepts from

    def _accept_from_the_rest(self) -> None:
        rest = {
            member
            for group in self.groups.values()
            for index, member in enumerate((*group.sockets, *group.retired))
            if index not in self._standing
        }
        for member in [member for member in self._loops if member not in rest]:
            self._loops.pop(member).pause()
        for member in rest - self._loops.keys():
            loop = AcceptLoop(self._clock, self._readiness, member, self._accepted)
            self._loops[member] = loop
            loop.start()

    def _retire_later(self, seconds: float) -> None:
        if self._retiring is not None:
            self._retiring.cancel()
            self._retiring = None
        if any(group.retired for group in self.groups.values()):
            self._retiring = self._clock.callLater(seconds, self._retire)

    def _retire(self) -> None:
        self._retiring = None
        for group in self.groups.values():
            for member in group.retired:
                loop = self._loops.pop(member, None)
                if loop is not None:
                    loop.pause()
            try:
                group.close_retired(_taken_apart(self._accepted))
            except OSError:
                self._retire_later(1.0)  # no descriptor free for those who wait there
        self._accept_from_the_rest()

    # the primary's own life

    def pause(self) -> None:
        """
        Let those wait whom no worker accepts.
        """
        for loop in self._loops.values():
            loop.pause()

    def proceed(self) -> None:
        """
        Accept them again.
        """
        for loop in self._loops.values():
            loop.start()

    def stop(self) -> None:
        """
        Listen no more, not by workers' copies either, after those who wait.
        """
        if self._retiring is not None:
            self._retiring.cancel()
            self._retiring = None
        self.pause()
        self._loops.clear()
        for group in self.groups.values():
            group.withdraw(_taken_apart(self._accepted))
        self.groups = {}

    def to_plain(self) -> dict[str, Any]:
        """
        The groups as JSON can carry them, descriptors by number.
        """
        return {
            description: {
                "slots": group.slots,
                "members": [
                    {"descriptor": member.fileno()} for member in (*group.sockets, *group.retired)
                ],
            }
            for description, group in self.groups.items()
        }


def resumed_group(plain: dict[str, Any], description: str, key: IpKey) -> SteeredGroup:
    """
    Go on with a group of a former self, by this version's program.

    :param plain: what :meth:`KernelSteering.to_plain` gave for it.
    :raises ListenError: if the kernel refuses the program.
    """
    members = [socket.socket(fileno=member["descriptor"]) for member in plain["members"]]
    for member in members:
        member.setblocking(False)
        member.set_inheritable(False)
    *_, backlog = listening_address(description)
    group = SteeredGroup(members, plain["slots"], key.ipv4_prefix, key.ipv6_prefix, backlog)
    group.resize(plain["slots"])
    return group
