"""
Listening by kernel steering: whether it can be, and the groups of sockets for it.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Factory
from twisted.logger import Logger, LogLevel

from stickyd.affinity.address import IpKey
from stickyd.errors import ListenError, OperatorError, SettingError
from stickyd.listen.endpoint import parse_endpoint
from stickyd.listen.reuseport.group import BACKLOG, SteeredGroup, open_group, require_steerable
from stickyd.listen.reuseport.probe import find_disagreement
from stickyd.listen.reuseport.steering import taken_apart
from stickyd.placement.rendezvous import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.settings import Settings

_log = Logger()

_OF_OUR_OWN = "tcp:0:interface=127.0.0.1"


def require_kernel(settings: Settings) -> IpKey:
    """
    Refuse settings that the kernel cannot steer by.

    :return: the key that it steers by.
    :raises SettingError: says what to change.
    """
    # Whatever stands behind the address is never asked, as every client has one.
    key = settings.keys.keys[0]
    if settings.networks or settings.proxy_protocol == "on":
        raise SettingError(
            "kernel steering is impossible here: the kernel does not see what a trusted proxy"
            " says of the client; use handoff steering, or leave --trust out"
        )
    if settings.placement != "rendezvous":
        raise SettingError(
            "kernel steering is impossible here: the kernel can compute the rendezvous"
            f" placement only, not {settings.placement}; use handoff steering"
        )
    if not isinstance(key, IpKey):
        raise SettingError(
            "kernel steering is impossible here: the kernel knows of a client only the address,"
            f" not {key}; use handoff steering, or --affinity ip"
        )
    for description in settings.listen:
        require_steerable(description, Rendezvous(1))
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
    deliver = taken_apart(accepted)
    reason = find_disagreement(group, lambda host: slot_of(key.key_of(host)), deliver)
    if reason:
        group.withdraw(deliver)
        raise ListenError(
            f"{description}: kernel steering does not work here: {reason}; use handoff steering"
        )
    return group


def try_kernel(settings: Settings, slots: int) -> None:
    """
    Check that the kernel takes this version's program and follows it, on a port that
    nobody knows.

    :raises OperatorError: if it does not.
    """

    def drop(descriptor: int, host: str, port: int) -> None:
        os.close(descriptor)

    group = open_checked_group(_OF_OUR_OWN, require_kernel(settings), slots, drop)
    group.withdraw(taken_apart(drop))


def restored_group(plain: dict[str, Any], description: str, key: IpKey) -> SteeredGroup:
    """
    Go on with a group of a former self, by this version's program.

    :param plain: what :meth:`KernelSteering.dump_state` gave for it.
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


def open_groups(
    settings: Settings, slots: int, accepted: Callable[[int, str, int], None]
) -> dict[str, SteeredGroup]:
    """
    Listen on every endpoint by kernel steering, if that is wanted and possible.

    :param accepted: as :func:`open_checked_group`.
    :return: the groups by endpoint description; none if the steering is by handoff.
    :raises OperatorError: if it is demanded and impossible; nothing is left open.
    """
    groups: dict[str, SteeredGroup] = {}
    if settings.steering == "handoff":
        return groups
    try:
        key = require_kernel(settings)
        for description in settings.listen:
            groups[description] = open_checked_group(description, key, slots, accepted)
    except OperatorError as problem:
        for group in groups.values():
            group.withdraw(taken_apart(accepted))
        if settings.steering == "kernel":
            raise
        level = LogLevel.info if isinstance(problem, SettingError) else LogLevel.warn
        _log.emit(
            level, "Steering by handoff: {problem}", event="steering.handoff", problem=problem
        )
        return {}
    return groups


def restore_groups(
    settings: Settings, plain: dict[str, Any]
) -> tuple[dict[str, SteeredGroup], bool]:
    """
    Go on with the groups of a former self; other sockets there cannot be beside them.

    :param plain: what :meth:`stickyd.listen.reuseport.steering.KernelSteering.dump_state` gave.
    :return: the groups, and whether the kernel can steer by the settings of today.
    """
    steers = True
    try:
        key = require_kernel(settings)
    except SettingError as problem:
        key, steers = IpKey(), False
        if plain:
            _log.warn(
                "From now on, steering by handoff: {problem}",
                event="steering.handoff",
                problem=problem,
            )
    if settings.steering == "kernel" and not plain:
        _log.warn(
            "Steering by handoff until a restart, as before the upgrade", event="steering.handoff"
        )
    return {
        description: restored_group(former, description, key)
        for description, former in plain.items()
    }, steers
