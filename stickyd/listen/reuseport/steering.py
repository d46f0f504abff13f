"""
Kernel steering in the service of a fleet: which worker accepts from which socket.

Theory of operation.  Each address that is listened on has a group of sockets, one per
slot, among which the kernel chooses (:mod:`stickyd.listen.reuseport.group`).  The worker that
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

from twisted.logger import Logger
from zope.interface import implementer

from stickyd.errors import ListenError, SettingError
from stickyd.fleet.slot_services import ISteering
from stickyd.handoff.frame import Handoff, Purpose
from stickyd.listen.reuseport.group import SteeredGroup
from stickyd.net.accept_loop import PAUSE_SECONDS, AcceptLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stickyd.fleet.slot import Slot
    from stickyd.interfaces import IReadiness

HANDSHAKE_SECONDS: Final = 65.0
"""
How long a client may still arrive on a socket that is chosen no longer: the kernel sends
its SYN-ACK again for 63 s (tcp(7), ``tcp_synack_retries`` of 5).
"""


@implementer(ISteering)
class KernelSteering:
    """
    Keeps the groups in step with the fleet.

    :ivar groups: by endpoint description; none if it does not steer.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, readiness: IReadiness) -> None:
        self._clock = clock
        self._readiness = readiness
        self.groups: dict[str, SteeredGroup] = {}
        self._accepted: Callable[[int, str, int], None] = _close
        self._steers = True
        self._slots: Sequence[Slot] = ()
        self._available: frozenset[int] = frozenset()
        self._loops: dict[socket.socket, AcceptLoop] = {}
        self._retiring: IDelayedCall | None = None

    def open(
        self,
        groups: dict[str, SteeredGroup],
        accepted: Callable[[int, str, int], None],
        steers: bool = True,
    ) -> None:
        """
        Have the kernel steer by these groups, as soon as clients are placed.

        :param groups: closed by :meth:`stop`; none if the kernel does not steer.
        :param accepted: takes descriptor, host and port of each connection that the
            primary accepts.
        :param steers: false if the groups are from a former self, which placed otherwise:
            then the primary accepts from all their sockets.
        """
        self.groups = groups
        self._accepted = accepted
        self._steers = steers
        self._slots, self._available = (), frozenset()

    # ISteering

    def prepare(self, slots: int) -> str:
        try:
            for group in self.groups.values() if self._steers else ():
                group.prepare(slots)
        except (ListenError, SettingError) as problem:
            return str(problem)
        return ""

    def placed(self, slots: Sequence[Slot], available: Sequence[int]) -> None:
        if not self.groups:
            return
        if not self._steers:
            self._accept_from_the_rest()
            return
        for group in self.groups.values():
            if group.slots != len(slots):
                self._resize(group, len(slots))
        anew = [index for index in available if index not in self._available]
        self._slots, self._available = slots, frozenset(available)
        self._accept_from_the_rest()
        self._retire_later(HANDSHAKE_SECONDS)
        for index in anew:
            worker = slots[index].worker
            if worker is not None:
                self._entrust(slots[index])
                worker.accept()

    def _resize(self, group: SteeredGroup, slots: int) -> None:
        try:
            group.resize(slots)
        except ListenError as problem:
            # It was tried before, so this is as good as impossible; and still nobody is
            # misplaced, as workers send on each connection that the kernel puts elsewhere.
            self._log.critical(
                "The kernel does not follow: {problem}", event="steering.lost", problem=problem
            )

    def occupied(self, slot: Slot) -> None:
        # One that is not placed yet is entrusted when it is.
        if slot.index in self._available:
            self._entrust(slot)

    def _entrust(self, slot: Slot) -> None:
        worker = slot.worker
        assert worker is not None
        for group in self.groups.values():
            if slot.index >= group.slots:
                continue
            try:
                descriptor = os.dup(group.sockets[slot.index].fileno())
            except OSError:
                self._clock.callLater(PAUSE_SECONDS, self._entrust_yet, slot, worker)
                return
            placed = b"%d" % len(self._slots)
            worker.entrust(Handoff(descriptor, "", 0, b"", placed, slot.index, Purpose.LISTENER))

    def _entrust_yet(self, slot: Slot, worker: object) -> None:
        if slot.worker is worker and slot.index in self._available:
            self._entrust(slot)

    # what no worker accepts from

    def _accept_from_the_rest(self) -> None:
        rest = {
            member
            for group in self.groups.values()
            for index, member in enumerate((*group.sockets, *group.retired))
            if index not in self._available
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
                group.close_retired(taken_apart(self._accepted))
            except OSError:
                self._retire_later(1.0)  # no descriptor is free for what waits there
        self._accept_from_the_rest()

    # the primary's own life

    def pause(self) -> None:
        """
        Let the connections wait that no worker accepts.
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
        Take what waits, and listen no more, not by workers' copies of the sockets either.
        """
        if self._retiring is not None:
            self._retiring.cancel()
            self._retiring = None
        self.pause()
        self._loops.clear()
        for group in self.groups.values():
            group.withdraw(taken_apart(self._accepted))
        self.groups, self._available = {}, frozenset()

    def dump_state(self) -> dict[str, Any]:
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


def _close(descriptor: int, host: str, port: int) -> None:
    """
    Take a connection that nobody has listened for.
    """
    os.close(descriptor)


def taken_apart(accepted: Callable[[int, str, int], None]) -> Callable[[Any, Any], None]:
    """
    Make what takes accepted sockets of what takes descriptors.
    """
    return lambda connection, peer: accepted(connection.detach(), peer[0], peer[1])
