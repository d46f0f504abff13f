"""
The composition root of the primary: settings become a running service.
"""

from __future__ import annotations

import os
import random
import resource
import signal
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from typing_extensions import override

from stickyd.affinity.resolve import Resolver
from stickyd.affinity.token import Signer
from stickyd.errors import OperatorError
from stickyd.fleet.backoff import Backoff
from stickyd.fleet.birth import Birth
from stickyd.fleet.cpus import usable_cpus
from stickyd.fleet.identity import identity
from stickyd.fleet.inherit import InheritedProcess
from stickyd.fleet.life import Life
from stickyd.fleet.placing import ClaimLimits
from stickyd.fleet.preflight import check_application, without_signals
from stickyd.fleet.recycle import Recycling
from stickyd.fleet.reload import Changes
from stickyd.fleet.secret import Secrets
from stickyd.fleet.slot import QueueLimits
from stickyd.fleet.spawn import Spawner, worker_command
from stickyd.fleet.supervise import Fleet
from stickyd.handoff.accept import AcceptLoop
from stickyd.handoff.readiness import readiness_of
from stickyd.listen.endpoint import explain, longest_backlog, parse_endpoint, shown
from stickyd.listen.kernel import KernelSteering
from stickyd.listen.opening import open_groups, require_kernel, resume_groups
from stickyd.listen.overflow import Overflow
from stickyd.listen.port import StickyFactory, plain_socket
from stickyd.listen.skew import SkewWatch
from stickyd.listen.sniff import Bounds, Sniffer
from stickyd.placement.choice import LEAST, PLACEMENTS
from stickyd.placement.least import LeastLoaded
from stickyd.settings import MOST_WORKERS, changed, fixed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from twisted.internet.interfaces import IListeningPort
    from twisted.python.failure import Failure

    from stickyd.fleet.slot import Slot
    from stickyd.settings import Settings


class StickyService(Service):
    """
    A primary: listens, places and supervises.

    Give it to an application (``service.setServiceParent(application)``) or call
    ``startService`` and ``stopService`` yourself.

    :ivar settings: what it runs with.
    :ivar factory: a protocol factory for an endpoint of your own; what it accepts is
        served like everything else.
    :ivar fleet: the slots.
    :ivar kernel: keeps the kernel in step with the fleet, if the kernel steers.
    :ivar stick: the table of the ``least`` placement, if that places.
    """

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        reactor: Any = None,
        inherited: dict[str, Any] | None = None,
        held: Collection[str] = (),
    ) -> None:
        """
        :param reactor: the global one by default.
        :param inherited: what the :meth:`to_plain` of a former self gave, if this process
            has replaced its code.
        :param held: the endpoints that another process holds for us, if this one only
            tries the code.
        :raises SettingError: if a setting means nothing to the part that it is for.
        """
        if reactor is None:
            from twisted.internet import reactor
        self.settings = settings
        self._reactor = reactor
        self._secrets = Secrets(bytes.fromhex((inherited or {}).get("secret", "")))
        secrets = self._secrets.of(settings)
        self._readiness = readiness_of(reactor)
        # A socket that we have already may have come by a way that is gone, as systemd's
        # descriptors are.
        had = held if inherited is None else inherited["ports"]
        self._endpoints = [
            (description, None if description in had else parse_endpoint(reactor, description))
            for description in settings.listen
        ]
        if settings.steering == "kernel":
            require_kernel(settings)
        self._count = settings.workers or usable_cpus()
        self.fleet = Fleet(
            reactor,
            PLACEMENTS.get(settings.placement, PLACEMENTS["rendezvous"]),
            QueueLimits(settings.queue_limit, settings.queue_timeout),
            Overflow(reactor, settings.refusal),
            ClaimLimits(settings.learn_limit, settings.learn_timeout),
        )
        self.stick: LeastLoaded | None = None
        if settings.placement == LEAST:
            self.stick = self._remember_clients()
        self.kernel: KernelSteering | None = None
        self._changes = Changes(self.fleet, lambda: self.settings.drain_timeout)
        # Not a secret: jitter only has to differ between slots.
        self._recycling = Recycling(
            settings.max_requests,
            settings.max_memory * 2**20,
            random.random,
            lambda slot: self._changes.reload([slot]),
        )
        self._backoff = Backoff(settings.backoff, settings.backoff_limit, random.random)
        self._spawner = Spawner(
            reactor,
            self._readiness,
            self._birth(settings, secrets),
            self.fleet,
            self._backoff,
            self._recycling,
        )
        self._resolver = self.fleet.resolver = Resolver(
            settings.keys,
            Signer(secrets) if secrets else None,
            self.fleet.stands,
            settings.networks,
            self.fleet.newcomers.known,
        )
        self._skew = SkewWatch(self.fleet, reactor, lambda: self.fleet.placed)
        self._sniffer = self._make_sniffer()
        self.factory = StickyFactory(
            self._skew,
            self._resolver.fallback_key,
            None if self._sniffer is None else self._sniffer.accepted,
        )
        self._open: list[tuple[str, IListeningPort]] = []
        self._loops: list[AcceptLoop] = []
        self._listening = False
        self._inherited = inherited
        self._on_reload: Callable[[Deferred[list[str]]], Deferred[list[str]]] | None = None
        # How many slots there will be when the changes under way are done; 0 before any.
        self._wanted = 0

    @property
    def ports(self) -> list[IListeningPort]:
        """
        What it listens on now.
        """
        return [port for _, port in self._open]

    def _remember_clients(self) -> LeastLoaded:
        stick = LeastLoaded(
            self._count,
            self.fleet.loads,
            self._reactor.seconds,
            self.fleet.stands,
            self.settings.stick_limit,
            self.settings.stick_timeout,
        )
        self.fleet.place = stick.place
        return stick

    def _birth(self, settings: Settings, secrets: tuple[bytes, ...]) -> Birth:
        who = identity(settings.uid, settings.gid)
        return Birth(worker_command(settings), settings, *who, secrets)

    def _make_sniffer(self) -> Sniffer | None:
        settings, resolver = self.settings, self._resolver
        proxied = settings.proxy_protocol == "on"
        if not (proxied or resolver.needs_head or resolver.needs_hello or resolver.needs_origin):
            return None
        # The descriptors of those who wait must leave some for those who do not.
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        bounds = Bounds(
            settings.head_bytes,
            settings.sniff_timeout,
            min(settings.sniff_limit, limit // 2),
            settings.sniff_overflow == "close",
        )
        return Sniffer(
            self._reactor,
            self._readiness,
            self._skew,
            resolver,
            settings.networks,
            proxied,
            bounds,
        )

    def _life(self, slot: Slot) -> Life:
        settings = self.settings
        return Life(
            slot,
            self._reactor,
            self._spawner,
            self._backoff,
            settings.crash_limit,
            settings.drain_timeout,
            self.fleet.standing_changed,
            self.fleet.ended,
        )

    @override
    def privilegedStartService(self) -> None:
        """
        Listen: here, since low ports need rights that may be given up afterwards.

        :raises ListenError: if one of the endpoints cannot be listened on.
        """
        self._listening = True
        former = {} if self._inherited is None else self._inherited["ports"]
        self._steer_by_kernel()
        for description, endpoint in self._endpoints:
            if self.kernel is not None and description in self.kernel.groups:
                continue
            if description in former:
                self._listens(description, self._adopt(former.pop(description)))
                continue
            assert endpoint is not None
            failures: list[Exception] = []
            listening = endpoint.listen(self.factory)
            listening.addCallback(partial(self._listens, description))
            listening.addErrback(partial(_note, failures))
            if failures:
                listening.addErrback(lambda _: None)
                self._listen_no_more()
                raise explain(description, failures[0])
            listening.addErrback(partial(self._fails_late, description))
        for left in former.values():
            os.close(left["descriptor"])

    def _listen_no_more(self) -> list[Deferred[Any]]:
        stopped = [maybeDeferred(port.stopListening) for _, port in self._open]
        self._open, self._loops, self._listening = [], [], False
        return stopped

    @property
    def descriptions(self) -> list[str]:
        """
        The endpoints that it listens on.
        """
        return [description for description, _ in self._open]

    def try_listening(self) -> None:
        """
        Listen where nobody holds the socket for us, and stop at once.

        :raises ListenError: if that cannot be.
        """
        self._endpoints = [(name, endpoint) for name, endpoint in self._endpoints if endpoint]
        self.privilegedStartService()
        self._listen_no_more()

    def _steer_by_kernel(self) -> None:
        steers = True
        try:
            if self._inherited is None:
                groups = open_groups(self.settings, self._count, self.factory.accepted)
            else:
                groups, steers = resume_groups(self.settings, self._inherited["groups"])
        except OperatorError:
            self._listening = False
            raise
        if groups:
            self.kernel = self.fleet.steering = KernelSteering(
                self._reactor, self._readiness, groups, self.factory.accepted, steers
            )
        for description, group in groups.items():
            host, port = group.sockets[0].getsockname()[:2]
            self._say_listening(description, IPv4Address("TCP", host, port))

    def _adopt(self, plain: dict[str, int]) -> IListeningPort:
        port: IListeningPort = self._reactor.adoptStreamPort(
            plain["descriptor"], plain["family"], self.factory
        )
        os.close(plain["descriptor"])
        return port

    def _fails_late(self, description: str, failure: Failure) -> None:
        assert isinstance(failure.value, Exception)
        self._log.critical("{problem}", problem=explain(description, failure.value))

    def _listens(self, description: str, port: IListeningPort) -> None:
        self._open.append((description, port))
        sock = plain_socket(port, self.factory)
        if sock is not None:
            port.stopReading()  # type: ignore[attr-defined]
            if "backlog=" not in description:
                # Twisted's 50 stalls bursts: a SYN that is dropped comes back after 1 s.
                sock.listen(longest_backlog())
            loop = AcceptLoop(self._reactor, self._readiness, sock, self.factory.accepted)
            self._loops.append(loop)
            if self.running:
                loop.start()
        self._say_listening(description, port.getHost())

    def _say_listening(self, description: str, address: object) -> None:
        self._log.info(
            "Sticky-session load balancer listening on {description} ({address})",
            description=description,
            address=shown(address),
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
        for warning in self.settings.keys.warnings:
            self._log.warn("{warning}", warning=warning)
        inherited, self._inherited = self._inherited, None
        if inherited is None:
            self.fleet.start(self._count, self._life)
            self._spawner.replenish()
        else:
            self._reap(inherited["unready"])
            if self.stick is not None and inherited["stick"] is not None:
                slots = len(inherited["fleet"]["slots"])
                self.stick.place(slots, range(slots)).restore(inherited["stick"])
            self.fleet.resume(inherited["fleet"], self._life)
            # The workers run the former code.
            self.reload().addCallback(lambda _: self._resize_if_wanted(inherited))
            for each in inherited.get("sniffed", ()):
                if self._sniffer is None:
                    self.factory.accepted(each["descriptor"], each["host"], each["port"])
                else:
                    self._sniffer.resume(each)
        for loop in self._loops:
            loop.start()

    def _reap(self, pids: list[int]) -> None:
        """
        End the workers that had no clients yet when this process replaced its code.
        """
        for pid in pids:
            process = InheritedProcess(
                self._readiness, pid, {}, lambda number, data: None, lambda reason: None
            )
            with suppress(ProcessExitedAlready):
                process.signalProcess(signal.SIGKILL)

    def _resize_if_wanted(self, inherited: dict[str, Any]) -> None:
        # What the operator has done by signals stays, unless he has changed the setting.
        wanted = self._wanted or inherited["wanted"]
        if self.settings.workers != inherited["workers"]:
            wanted = self.settings.workers
        if wanted and wanted != self.fleet.placed:
            self.resize(wanted)

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
        if self.kernel is not None:
            self.kernel.stop()
            self.kernel = self.fleet.steering = None
        if self._sniffer is not None:
            self._sniffer.stop()
        waits = self._listen_no_more()
        waits.append(self._spawner.stop())
        waits.append(self.fleet.stop(self.settings.stop_timeout))
        return gatherResults(waits).addCallback(lambda _: None)

    # a primary that replaces itself

    def exclusively(self, act: Callable[[], Deferred[None]]) -> Deferred[None]:
        """
        Act when no reload, resize or drain is under way; none begins until what it
        returns has fired.
        """
        return self._changes.exclusively(act)

    def pause(self) -> None:
        """
        Let newcomers wait in the kernel's queue.
        """
        for loop in self._loops:
            loop.pause()
        if self.kernel is not None:
            self.kernel.pause()

    def proceed(self) -> None:
        """
        Accept again.
        """
        for loop in self._loops:
            loop.start()
        if self.kernel is not None:
            self.kernel.proceed()

    @property
    def quiet(self) -> bool:
        """
        Whether the state can be written down now.
        """
        return self.fleet.quiet

    def to_plain(self) -> dict[str, Any]:
        """
        The whole state as JSON can carry it, descriptors by number.

        :raises OperatorError: if a port is of a kind that cannot be carried on.
        """
        ports = {}
        for description, port in self._open:
            sock = plain_socket(port, self.factory)
            if sock is None:
                raise OperatorError(f"{description} cannot be carried over to the new code")
            ports[description] = {"descriptor": sock.fileno(), "family": int(sock.family)}
        fleet = self.fleet.to_plain()
        return {
            "ports": ports,
            "workers": self.settings.workers,
            "wanted": self._wanted,
            "groups": {} if self.kernel is None else self.kernel.to_plain(),
            "stick": None if self.stick is None else self.stick.snapshot(),
            "fleet": fleet,
            "secret": self._secrets.own.hex(),
            "sniffed": [] if self._sniffer is None else self._sniffer.to_plain(),
            "unready": [
                *(worker.pid for worker in self._spawner.spares),
                *(pid for slot in fleet["slots"] for pid in slot.pop("unready")),
            ],
        }

    # while it runs

    def reload(self, settings: Settings | None = None) -> Deferred[list[str]]:
        """
        Replace the workers one by one by fresh ones, which import the application anew.

        The application is tried in a child first; if it does not import, nothing changes.

        :param settings: what to run with from now on; those in
            :data:`stickyd.settings.FIXED` stay as they are, which the log says.
        :return: fires with a line for each thing that was not done.
        """
        wanted = settings or self.settings
        stays = fixed(self.settings, wanted)
        for name in sorted(changed(self.settings, wanted) & stays):
            self._log.warn("{name} cannot change at a reload; restart to change it", name=name)
        wanted = wanted.keeping(self.settings, stays)
        self._log.info("Reloading")
        checked = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), without_signals, check_application, wanted
        )
        checked.addCallback(lambda _: self._secrets.of(wanted))
        reloaded = checked.addCallbacks(
            lambda secrets: self._reload_checked(wanted, secrets), self._not_reloaded
        ).addCallback(self._reloaded)
        return reloaded if self._on_reload is None else self._on_reload(reloaded)

    def call_when_reloading(
        self, call: Callable[[Deferred[list[str]]], Deferred[list[str]]]
    ) -> None:
        """
        Have ``call`` follow each reload: it is given the outcome, and gives it on.
        """
        self._on_reload = call

    def _reload_checked(
        self, settings: Settings, secrets: tuple[bytes, ...]
    ) -> Deferred[list[str]]:
        self.settings = settings
        if secrets:
            self._resolver.signer = Signer(secrets)
        self._spawner.renew(self._birth(settings, secrets))
        return self._changes.reload()

    def _not_reloaded(self, failure: Failure) -> list[str]:
        failure.trap(OperatorError)
        return [failure.getErrorMessage()]

    def _reloaded(self, problems: list[str]) -> list[str]:
        if not self.running:
            return problems
        for problem in problems:
            self._log.error("Not reloaded: {problem}", problem=problem)
        if not problems:
            self._log.info("Reloaded: every worker is fresh")
        return problems

    def resize(self, count: int) -> Deferred[str]:
        """
        Change the number of slots, at the tail.

        :param count: 1 to 256.
        :return: fires with an empty text, or with the reason why it was not done.
        """
        bounded = min(max(count, 1), MOST_WORKERS)
        self._wanted = bounded
        if count != bounded:
            reason = f"{count} is no number of workers from 1 to {MOST_WORKERS}"
            return succeed(self._say_why_not(reason, "resized"))
        return self._changes.resize(count).addCallback(self._resized)

    def resize_by(self, difference: int) -> Deferred[str]:
        """
        Change the number of slots by so many, counted from what it will be when the
        changes under way are done.

        :return: as :meth:`resize`.
        """
        self._wanted = (self._wanted or self.fleet.placed) + difference
        return self.resize(self._wanted)

    def drain(self, slot: int) -> Deferred[str]:
        """
        Keep clients away from a slot, and have the others take its sessions over.

        :return: fires with an empty text, or with the reason why it was not done.
        """
        return self._changes.drain(slot).addCallback(self._say_why_not, "drained")

    def undrain(self, slot: int) -> Deferred[str]:
        """
        Let clients come back to a drained slot.

        :return: fires with an empty text, or with the reason why it was not done.
        """
        return self._changes.undrain(slot).addCallback(self._say_why_not, "undrained")

    def _resized(self, reason: str) -> str:
        if reason:
            self._wanted = self.fleet.placed
        return self._say_why_not(reason, "resized")

    def _say_why_not(self, reason: str, done: str) -> str:
        if reason:
            self._log.error("Not {done}: {reason}", done=done, reason=reason)
        return reason


def _note(failures: list[Exception], failure: Failure) -> Failure:
    assert isinstance(failure.value, Exception)
    failures.append(failure.value)
    return failure
