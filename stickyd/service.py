"""
The composition root of the primary: settings become a running service.
"""

from __future__ import annotations

import errno
import os
import random
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from typing_extensions import override

from stickyd.affinity.address import parse_ip_key, parse_text_key
from stickyd.errors import ListenError, OperatorError, SettingError
from stickyd.fleet.backoff import Backoff
from stickyd.fleet.cpus import usable_cpus
from stickyd.fleet.slot import QueueLimits
from stickyd.fleet.spawn import Spawner
from stickyd.fleet.supervise import Fleet
from stickyd.handoff.readiness import readiness_of
from stickyd.listen.overflow import Overflow
from stickyd.listen.port import AcceptLoop, StickyFactory, plain_socket
from stickyd.placement.modulo import Modulo
from stickyd.placement.rendezvous import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
    from twisted.python.failure import Failure

    from stickyd.interfaces import IPlacement
    from stickyd.settings import Settings

PLACEMENTS: dict[str, Callable[[int], IPlacement]] = {"rendezvous": Rendezvous, "modulo": Modulo}


class StickyService(Service):
    """
    A primary: listens, places and supervises.

    Give it to an application (``service.setServiceParent(application)``) or call
    ``startService`` and ``stopService`` yourself.

    :ivar settings: what it was made with.
    :ivar factory: a protocol factory for an endpoint of your own; what it accepts is
        served like everything else.
    :ivar fleet: the slots.
    :ivar ports: the listening ports, once the service is started.
    """

    _log = Logger()

    def __init__(self, settings: Settings, reactor: Any = None) -> None:
        """
        :param reactor: the global one by default.
        :raises SettingError: if a setting means nothing to the part that it is for.
        """
        if reactor is None:
            from twisted.internet import reactor
        self.settings = settings
        self._reactor = reactor
        self._readiness = readiness_of(reactor)
        self._endpoints = [
            (description, _endpoint(reactor, description)) for description in settings.listen
        ]
        self._overflow = Overflow(reactor, settings.overflow)
        self.fleet = Fleet(
            reactor,
            PLACEMENTS[settings.placement],
            settings.workers or usable_cpus(),
            QueueLimits(settings.queue_limit, settings.queue_timeout),
            self._overflow,
        )
        self.factory = StickyFactory(self.fleet, _key_of(settings))
        self.ports: list[IListeningPort] = []
        self._loops: list[AcceptLoop] = []
        self._listening = False

    @override
    def privilegedStartService(self) -> None:
        """
        Listen: here, since low ports need rights that may be given up afterwards.

        :raises ListenError: if one of the endpoints cannot be listened on.
        """
        self._listening = True
        for description, endpoint in self._endpoints:
            failures: list[Exception] = []
            listening = endpoint.listen(self.factory)
            listening.addCallback(partial(self._listens, description))
            listening.addErrback(partial(_note, failures))
            if failures:
                for port in self.ports:
                    port.stopListening()
                raise _explain(description, failures[0])

    def _listens(self, description: str, port: IListeningPort) -> None:
        self.ports.append(port)
        sock = plain_socket(port, self.factory)
        if sock is not None:
            port.stopReading()  # type: ignore[attr-defined]
            if "backlog=" not in description:
                # Twisted's 50 stalls bursts: a SYN that is dropped comes back after 1 s.
                sock.listen(_longest_backlog())
            loop = AcceptLoop(self._reactor, self._readiness, sock, self.factory.accepted)
            self._loops.append(loop)
            if self.running:
                loop.start()
        self._log.info(
            "Sticky-session load balancer listening on {description} ({address})",
            description=description,
            address=_shown(port.getHost()),
        )

    @override
    def startService(self) -> None:
        """
        Start the workers, and accept.
        """
        if not self._listening:
            self.privilegedStartService()
        super().startService()
        self._log.info("Primary {pid} running", pid=os.getpid())
        settings = self.settings
        self.fleet.start(
            Spawner(self._reactor, self._readiness, settings, self.fleet),
            # Not a secret: jitter only has to differ between slots.
            Backoff(settings.backoff, settings.backoff_limit, random.random),
            settings.crash_limit,
        )
        for loop in self._loops:
            loop.start()

    @override
    def stopService(self) -> Deferred[None]:
        """
        Accept no more, let what is under way finish, end the workers.

        :return: fires when the last worker has exited, at the latest a little after
            ``settings.stop_timeout``.
        """
        super().stopService()
        self._log.info("Stopping: requests under way may finish")
        for loop in self._loops:
            loop.stop()
        waits: list[Deferred[Any]] = [maybeDeferred(port.stopListening) for port in self.ports]
        self.ports, self._loops, self._listening = [], [], False
        waits.append(self.fleet.stop(self.settings.stop_timeout))
        return gatherResults(waits).addCallback(lambda _: None)


def _note(failures: list[Exception], failure: Failure) -> None:
    assert isinstance(failure.value, Exception)
    failures.append(failure.value)


def _endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """
    Parse an endpoint description.

    :raises SettingError: if Twisted does not know it, or it cannot hand over descriptors.
    """
    kind = description.partition(":")[0]
    if kind in ("ssl", "tls", "haproxy"):
        raise SettingError(
            f"--listen {description}: {kind}: endpoints read from the connection in the"
            " primary, so it cannot be handed over; write tcp:PORT"
        )
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except Exception as problem:  # noqa: BLE001 (endpoint parsers raise what they like)
        if kind == "systemd" and isinstance(problem, LookupError):
            raise SettingError(
                f"--listen {description}: no such socket was passed to this process; a"
                " service manager passes them by LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES"
            ) from None
        raise SettingError(
            f"--listen {description}: not an endpoint: {problem}; write for example tcp:3000,"
            " tcp:80:interface=127.0.0.1 or unix:/run/app.sock"
        ) from None
    port = getattr(endpoint, "_port", 0)
    if isinstance(port, int) and not 0 <= port <= 65535:
        raise SettingError(f"--listen {description}: {port} is not a port from 0 to 65535")
    return endpoint


def _explain(description: str, problem: Exception) -> OperatorError:
    """
    Say why an endpoint cannot be listened on, and what to do.
    """
    cause = getattr(problem, "socketError", problem)
    advice = {
        errno.EADDRINUSE: "another program listens there; stop it or choose another port",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher"
        " port, or let systemd open it (systemd:domain=INET:index=0)",
        errno.EADDRNOTAVAIL: "this machine has no such address",
    }.get(getattr(cause, "errno", 0) or 0)
    text = getattr(cause, "strerror", None) or str(cause)
    if isinstance(problem, CannotListenError) or advice is None:
        return ListenError(
            f"cannot listen on {description}: {text}" + (f": {advice}" if advice else "")
        )
    return ListenError(f"cannot listen on {description}: {text}: {advice}")


def _shown(address: object) -> str:
    host = getattr(address, "host", None)
    if host is None:
        return str(getattr(address, "name", address))
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{getattr(address, 'port', 0)}"


def _longest_backlog() -> int:
    """
    What the kernel allows (listen(2)): it cuts longer ones down in silence.
    """
    try:
        with open("/proc/sys/net/core/somaxconn") as limit:
            return int(limit.read())
    except (OSError, ValueError):
        return 1024


def _key_of(settings: Settings) -> Callable[[str], bytes]:
    if len(settings.affinity) != 1:
        raise SettingError("--affinity: one entry, please: ip, ip/24 or ip/24/56")
    parse = parse_text_key if settings.placement == "modulo" else parse_ip_key
    return parse(settings.affinity[0]).key_of
