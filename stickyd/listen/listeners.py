"""
All that the primary accepts connections from, opened and closed together.

That is: the ports of the endpoints, each with an accept loop of ours where that is possible; the
groups of sockets among which the kernel chooses; and the connections whose first bytes are still
looked at.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger

from stickyd.errors import OperatorError
from stickyd.listen.endpoint import (
    explain,
    is_passed,
    longest_backlog,
    parse_endpoint,
    shown,
    take_inherited,
    take_passed,
)
from stickyd.listen.peeking import Bounds, Peeker
from stickyd.listen.port import PassedPort, StickyFactory, plain_socket
from stickyd.listen.reuseport.setup import open_groups, require_kernel, restore_groups, try_kernel
from stickyd.net.accept_loop import AcceptLoop
from stickyd.net.descriptors import PEEKED_SHARE, share_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
    from twisted.python.failure import Failure

    from stickyd.affinity.resolve import Resolver
    from stickyd.interfaces import IDestination, IReadiness
    from stickyd.listen.reuseport.steering import KernelSteering
    from stickyd.settings import Settings


class Listeners:
    """
    Listens, and passes on the connections that it accepts.

    :ivar factory: accepts for other endpoints too.
    :ivar peeker: looks at first bytes, if they matter.
    :ivar is_open: whether it listens.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        readiness: IReadiness,
        settings: Settings,
        steering: KernelSteering,
        destination: IDestination,
        resolver: Resolver,
        held: Collection[str] = (),
        peeked: Counter[str] | None = None,
    ) -> None:
        """
        :param steering: keeps the kernel in step with the fleet, if the kernel steers.
        :param destination: what the connections are passed to.
        :param held: the endpoints that need not be parsed: their sockets are there already,
            and may have come by a way that is gone, as systemd's descriptors are.
        :param peeked: counts what becomes of those whose first bytes are looked at.
        :raises SettingError: if an endpoint means nothing, or the kernel cannot steer as
            it must.
        """
        self._reactor = reactor
        self._readiness = readiness
        self._settings = settings
        self._resolver = resolver
        self._steering = steering
        self._endpoints = [
            (description, None if description in held else parse_endpoint(reactor, description))
            for description in settings.listen
        ]
        if settings.steering == "kernel":
            require_kernel(settings)
        self.peeker = self._make_peeker(destination, peeked)
        self.factory = StickyFactory(
            destination,
            resolver.fallback_key,
            None if self.peeker is None else self.peeker.accepted,
        )
        self.is_open = False
        self._accepts = False
        self._open: list[tuple[str, IListeningPort]] = []
        self._loops: list[AcceptLoop] = []

    def _make_peeker(self, destination: IDestination, counts: Counter[str] | None) -> Peeker | None:
        settings, resolver = self._settings, self._resolver
        proxied = settings.proxy_protocol == "on"
        if not (proxied or resolver.needs_head or resolver.needs_hello or resolver.needs_origin):
            return None
        return Peeker(
            self._reactor,
            self._readiness,
            destination,
            resolver,
            settings.networks,
            proxied,
            Bounds.of(settings, share_of(PEEKED_SHARE)),
            counts,
        )

    @property
    def asks_requests(self) -> bool:
        """
        Whether a request can say anything that its connection does not.
        """
        return self._resolver.asks_requests

    @property
    def ports(self) -> list[IListeningPort]:
        """
        The ports that it listens on now.
        """
        return [port for _, port in self._open]

    @property
    def descriptions(self) -> list[str]:
        """
        The endpoints that it listens on.
        """
        return [*(description for description, _ in self._open), *self._steering.groups]

    # opening

    def open(self, slots: int, inherited: dict[str, Any] | None = None) -> None:
        """
        Listen; nobody is accepted before :meth:`accept`.

        :param slots: how many slots there will be.
        :param inherited: what :meth:`dump_state` of a former self gave.
        :raises ListenError: if one of the endpoints cannot be listened on.
        """
        self.is_open = True
        self._steer_by_kernel(slots, inherited)
        former = {} if inherited is None else inherited["ports"]
        new = self._take_former(former)
        try:
            self._open_ports(new)
        except OperatorError as problem:
            if inherited is None:
                self._close_ports()
                raise
            # It could when that was tried; our clients are worth more.
            self._log.critical(
                "{problem}; upgrade again when it can be", event="listen.not-open", problem=problem
            )

    def _take_former(self, former: dict[str, Any]) -> list[tuple[str, Any]]:
        """
        Go on listening where this primary did before it replaced its code, but not at an
        endpoint that is none any more.

        :param former: its ports, by endpoint.
        :return: the endpoints that are new.
        """
        new = []
        for description, endpoint in self._endpoints:
            if description in self._steering.groups:
                continue
            if description in former:
                former_port = former.pop(description)
                self._listens(description, take_inherited(description, former_port["descriptor"]))
            else:
                new.append((description, endpoint))
        for description, plain in former.items():
            # Not only closed: the file of a UNIX socket goes too.
            take_inherited(description, plain["descriptor"]).stopListening()
        return new

    def _open_ports(self, endpoints: list[tuple[str, Any]]) -> None:
        """
        Listen.

        :raises ListenError: if one of these cannot be listened on.
        """
        for description, endpoint in endpoints:
            if is_passed(description):
                self._listens(description, take_passed(description, endpoint))
            else:
                self._listen(description, endpoint)

    def try_opening(self, slots: int) -> None:
        """
        Listen where nobody holds the socket for us, and stop at once.

        :raises OperatorError: if that cannot be.
        """
        self.is_open = True
        # An upgrade opens no new groups for the kernel: it goes on with those of the parent.
        if self._settings.steering == "kernel":
            try_kernel(self._settings, slots)
        try:
            self._open_ports([(name, endpoint) for name, endpoint in self._endpoints if endpoint])
        finally:
            self._close_ports()

    def _steer_by_kernel(self, slots: int, inherited: dict[str, Any] | None) -> None:
        steers = True
        try:
            if inherited is None:
                groups = open_groups(self._settings, slots, self.factory.accepted)
            else:
                groups, steers = restore_groups(self._settings, inherited["groups"])
        except OperatorError:
            self.is_open = False
            raise
        self._steering.open(groups, self.factory.accepted, steers)
        for description, group in groups.items():
            host, port = group.sockets[0].getsockname()[:2]
            self._say_listening(description, IPv4Address("TCP", host, port))

    def _listen(self, description: str, endpoint: IStreamServerEndpoint) -> None:
        at_once: list[OperatorError] = []
        is_late = False

        def failed(failure: Failure) -> None:
            assert isinstance(failure.value, Exception)
            problem = explain(description, failure.value)
            if is_late:
                self._log.critical("{problem}", event="listen.not-steered", problem=problem)
            else:
                at_once.append(problem)

        listening = endpoint.listen(self.factory)
        listening.addCallback(partial(self._listens, description)).addErrback(failed)
        if at_once:
            raise at_once[0]
        is_late = True

    def _listens(self, description: str, port: IListeningPort) -> None:
        self._open.append((description, port))
        sock = plain_socket(port, self.factory)
        if sock is not None:
            if not isinstance(port, PassedPort):
                port.stopReading()  # type: ignore[attr-defined]
            if "backlog=" not in description:
                # Twisted's 50 stalls bursts: a SYN that is dropped comes back after 1 s.
                sock.listen(longest_backlog())
            loop = AcceptLoop(self._reactor, self._readiness, sock, self.factory.accepted)
            self._loops.append(loop)
            if self._accepts:
                loop.start()
        self._say_listening(description, port.getHost())

    def _say_listening(self, description: str, address: object) -> None:
        self._log.info(
            "Sticky-session load balancer listening on {description} ({address})",
            event="listen.open",
            description=description,
            address=shown(address),
        )

    # accepting

    def accept(self) -> None:
        """
        Accept from now on.
        """
        self._accepts = True
        for loop in self._loops:
            loop.start()

    def pause(self) -> None:
        """
        Let newcomers wait in the kernel's queue.
        """
        for loop in self._loops:
            loop.pause()
        self._steering.pause()

    def proceed(self) -> None:
        """
        Accept again after :meth:`pause`.
        """
        for loop in self._loops:
            loop.start()
        self._steering.proceed()

    def close(self) -> list[Deferred[Any]]:
        """
        Listen no more; connections that the kernel has accepted are passed on.

        :return: they fire when the ports are closed.
        """
        self._accepts = False
        for loop in self._loops:
            loop.stop()
        self._steering.stop()
        if self.peeker is not None:
            self.peeker.stop()
        return self._close_ports()

    def _close_ports(self) -> list[Deferred[Any]]:
        closed = [maybeDeferred(port.stopListening) for port in self.ports]
        self._open, self._loops, self.is_open = [], [], False
        return closed

    # a primary that replaces itself

    def dump_state(self) -> dict[str, Any]:
        """
        The listening sockets, and the connections that are looked at, as JSON can carry them:
        descriptors by number.

        :raises OperatorError: if a port is of a kind that cannot be carried on.
        """
        ports = {}
        for description, port in self._open:
            sock = plain_socket(port, self.factory)
            if sock is None:
                raise OperatorError(f"{description} cannot be carried over to the new code")
            ports[description] = {"descriptor": sock.fileno(), "family": int(sock.family)}
        return {
            "ports": ports,
            "groups": self._steering.dump_state(),
            "sniffed": [] if self.peeker is None else self.peeker.dump_state(),
        }

    def restore_state(self, inherited: dict[str, Any]) -> None:
        """
        Go on with the connections that were looked at before this primary replaced its code.

        :param inherited: what its :meth:`dump_state` gave.
        """
        for each in inherited.get("sniffed", ()):
            if self.peeker is None:
                self.factory.accepted(each["descriptor"], each["host"], each["port"])
            else:
                self.peeker.restore_state(each)
