"""
The composition root of the primary: settings become a running service.
"""

from __future__ import annotations

import os
import random
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override

from stickyd.affinity.peek.http2 import NOTICE as HTTP2_NOTICE
from stickyd.affinity.resolve import Resolver
from stickyd.affinity.token import Signer
from stickyd.errors import SettingError
from stickyd.explain import explain_by
from stickyd.figures.fleet_figures import PEEKED, REFUSED, TOKENS, FleetFigures
from stickyd.fleet.backoff import Backoff
from stickyd.fleet.fleet import Fleet
from stickyd.fleet.fleet_view import FleetView
from stickyd.fleet.health import Health, health_of
from stickyd.fleet.operations import Operations
from stickyd.fleet.placing import ClaimLimits
from stickyd.fleet.process.keeper_bounds import KeeperBounds
from stickyd.fleet.process.launcher import Launcher
from stickyd.fleet.process.output_share import OutputShare
from stickyd.fleet.process.process import LAST_WORDS_SECONDS
from stickyd.fleet.process.recycle import Recycling
from stickyd.fleet.process.spawner import Spawner, spec_of
from stickyd.fleet.restarts import Restarts
from stickyd.fleet.secret_rotation import SecretRotation
from stickyd.fleet.slot import QueueLimits
from stickyd.fleet.slot_changes import SlotChanges
from stickyd.fleet.slot_table import SlotTable
from stickyd.fleet.slot_workers import SlotWorkers
from stickyd.fleet.start_notice import StartNotice
from stickyd.fleet.trials import Trials
from stickyd.fleet.worker_limits import WorkerLimits
from stickyd.leadership.lease_return import LeaseReturn
from stickyd.listen.listeners import Listeners
from stickyd.listen.refusal import Refusal
from stickyd.listen.reuseport.steering import KernelSteering
from stickyd.listen.skew import SkewWatch
from stickyd.log.banner import banner
from stickyd.messaging.hub import BusHub
from stickyd.net.descriptors import QUEUED_SHARE, share_of
from stickyd.net.readiness import readiness_of
from stickyd.net.steady_time import keep_steady
from stickyd.net.waiters import Waiters
from stickyd.placement.choose import LEAST, PLACEMENTS
from stickyd.placement.failover import Failover
from stickyd.placement.least import LeastLoaded
from stickyd.system.cpus import usable_cpus
from stickyd.system.run_as import identity
from stickyd.system.secrets import Secrets
from stickyd.system.session_files import are_in_slots, has_strays
from stickyd.upgrade.state import UpgradeState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime

    from stickyd.affinity.key_counts import Report
    from stickyd.explain import Client, Explanation
    from stickyd.fleet.process.spec import WorkerSpec
    from stickyd.fleet.slot import Slot
    from stickyd.interfaces import IPlacement, IReadiness
    from stickyd.listen.port import StickyFactory
    from stickyd.settings import Settings

    Place = Callable[[int, Sequence[int]], IPlacement]


class StickyService(Service):
    """
    A primary: listens, places and supervises.

    Give it to an application (``service.setServiceParent(application)``) or call
    ``startService`` and ``stopService`` yourself.

    :ivar fleet: the slots.
    :ivar figures: what has happened so far; :func:`stickyd.fleet.report.report_on` shows it.
    :ivar operations: what an operator may do while it runs.
    :ivar bus: passes messages on between the workers.
    :ivar stick: the table of the ``least`` placement, if that places.
    :ivar upgrade_state: the state, for the new code of this process.
    """

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        reactor: Any = None,
        inherited: dict[str, Any] | None = None,
        held: Collection[str] = (),
        gave_up: Callable[[], object] = lambda: None,
    ) -> None:
        """
        :param reactor: the global one by default.  It goes by a monotonic clock from now on,
            see :func:`stickyd.net.steady_time.keep_steady`.
        :param inherited: what ``upgrade_state.dump_state()`` gave before this process replaced its
            code, if it has.
        :param held: the endpoints that another process holds for us, if this one only
            tries the code.
        :param gave_up: called when no worker has become ready since the start, and every
            slot has failed; it goes on trying unless it is stopped.
        :raises SettingError: if a setting means nothing to the part that it is for.
        """
        if reactor is None:
            from twisted.internet import reactor
        keep_steady(reactor)
        self._reactor = reactor
        self._inherited = inherited
        self._lame: IDelayedCall | None = None
        self._stopped = Waiters()
        self._gave_up = gave_up
        self._count = settings.workers or usable_cpus()
        self._limits = WorkerLimits.of(settings)
        self.figures = figures = FleetFigures()
        self._refusal = Refusal(reactor, settings.refusal, figures.counter(REFUSED))
        self._backoff = Backoff(settings.backoff, settings.backoff_limit, random.random)
        readiness = readiness_of(reactor)
        kept = Secrets(bytes.fromhex((inherited or {}).get("secret", "")))
        secrets = self._secrets_of(kept, settings)
        self._signer = Signer(secrets, node=settings.node, run=kept.run)
        # Each part is given what it needs, so the order is: slots, who belongs to which, the
        # fleet that places by that, the processes behind it, and those who accept for it.
        claims = ClaimLimits(settings.learn_limit, settings.learn_timeout)
        table = SlotTable(reactor, claims, figures, settings.known_limit)
        owner_of = table.newcomers.known
        resolver = Resolver(
            settings.keys,
            self._signer,
            table.is_available,
            settings.networks,
            owner_of,
            figures.counter(TOKENS),
            table.keepers,
        )
        steering = KernelSteering(reactor, readiness)
        self.stick = _table_of_clients(settings, table, self._count, reactor)
        self.fleet = self._make_fleet(settings, table, resolver, steering)
        self._start_notice = StartNotice(reactor, table, settings.application_name)
        self._changes = SlotChanges(self.fleet, self._limits, are_in_slots(settings))
        self.fleet.keep_clients(self._changes.retire)
        skew = SkewWatch(self.fleet, reactor, lambda: table.placed)
        self.bus = BusHub(reactor, readiness, (inherited or {}).get("bus"))
        spec = spec_of(settings, secrets, kept.run)
        self._spawner = self._make_spawner(spec, readiness, skew.told)
        lease_return = LeaseReturn(reactor, lambda: self._spawner.spec.settings.bus)
        self.fleet.election.give_back_by(lease_return)
        self._rotation = SecretRotation(reactor, kept, self._signer, self._spawner, self.fleet)
        self.operations = self._make_operations(settings)
        ports = held if inherited is None else inherited["ports"]
        self._listeners = Listeners(
            *(reactor, readiness, settings, steering, skew, resolver, ports),
            figures.counter(PEEKED),
        )
        self.upgrade_state = UpgradeState(
            self._listeners, self.fleet, self._spawner, self.operations, kept, self.stick, self.bus
        )

    def _apply(self, settings: Settings) -> None:
        self._limits.follow(settings)
        self._refusal.answer_with(settings.refusal)
        self.fleet.table.keepers.bound(settings.known_limit)

    def _secrets_of(self, kept: Secrets, settings: Settings) -> tuple[bytes, ...]:
        try:
            return kept.of(settings)
        except SettingError as problem:
            if self._inherited is None:
                raise
            self._log.error(
                "{problem}; the former secrets stay", event="secret.stays", problem=problem
            )
            former = tuple(bytes.fromhex(secret) for secret in self._inherited["secrets"])
            return former or (kept.own,)

    def _make_fleet(
        self, settings: Settings, table: SlotTable, resolver: Resolver, steering: KernelSteering
    ) -> Fleet:
        if self.stick is not None:
            place: Place = self.stick.place
        else:
            place = partial(Failover, PLACEMENTS[settings.placement])
        return Fleet(
            self._reactor,
            table,
            place,
            QueueLimits(
                settings.queue_limit, settings.queue_timeout, lambda: share_of(QUEUED_SHARE)
            ),
            self._refusal,
            resolver,
            steering,
            # What the last worker has said may still be in its pipe.
            lambda: self._reactor.callLater(LAST_WORDS_SECONDS, self._give_up),
        )

    def _give_up(self) -> None:
        if self.running and not self.fleet.has_served:
            self._log.critical(
                "No worker has become ready since the start. {deaths}",
                event="fleet.never-ready",
                deaths=self.fleet.table.last_deaths[-1],
            )
            self._gave_up()

    def _make_spawner(
        self, spec: WorkerSpec, readiness: IReadiness, accepted: Callable[[Report], object]
    ) -> Spawner:
        settings, table = spec.settings, self.fleet.table
        # Not a secret: jitter only has to differ between slots.
        recycling = Recycling(
            settings.max_requests,
            settings.max_memory * 2**20,
            random.random,
            lambda slot: self._changes.reload([slot]),
            KeeperBounds(table.keepers, self._limits, lambda: table.placed).look,
        )
        return Spawner(
            self._reactor,
            readiness,
            Launcher(self._reactor, readiness, spec, OutputShare()),
            self.fleet,
            self._backoff,
            recycling,
            self.bus,
            accepted,
        )

    def _make_operations(self, settings: Settings) -> Operations:
        return Operations(
            self._reactor,
            settings,
            self.fleet,
            self._changes,
            self._rotation,
            self._spawner,
            Trials(self._reactor),
            self._apply,
        )

    def _make_workers(self, slot: Slot) -> SlotWorkers:
        return SlotWorkers(
            slot,
            self._reactor,
            self._spawner,
            Restarts(self._reactor, self._backoff, self._limits),
            self._limits,
            self._changes.availability_changed,
            self._changes.ended,
            self.fleet.table.keepers,
            came_back=self._changes.came_back,
        )

    # what it is

    @property
    def settings(self) -> Settings:
        """
        What it runs with.
        """
        return self.operations.settings

    @property
    def factory(self) -> StickyFactory:
        """
        A protocol factory for an endpoint of your own; what it accepts is served like
        everything else.
        """
        return self._listeners.factory

    @property
    def ports(self) -> list[IListeningPort]:
        """
        What it listens on now.
        """
        return self._listeners.ports

    def listens_on(self) -> list[str]:
        """
        The endpoints that it listens on.
        """
        return self._listeners.descriptions

    # start and stop

    @override
    def privilegedStartService(self) -> None:
        """
        Listen: here, since low ports need rights that may be given up afterwards.

        :raises ListenError: if one of the endpoints cannot be listened on.
        """
        self._listeners.open(self._count, self._inherited)

    def try_listening(self) -> None:
        """
        Listen where nobody holds the socket for us, and stop at once.

        :raises OperatorError: if that cannot be.
        """
        self._listeners.try_opening(self._count)

    @override
    def startService(self) -> None:
        """
        Start the workers, and accept.

        :raises SettingError: if we may not become their user any more.
        """
        if not self._listeners.is_open:
            self.privilegedStartService()
        # twistd may have given up root meanwhile.
        self._run_as(self.settings)
        super().startService()
        self._log.info("Primary {pid} running", event="primary.running", pid=os.getpid())
        for warning in self.settings.keys.warnings:
            self._log.warn("{warning}", event="settings.warning", warning=warning)
        if self.settings.http2 == "on" and self._listeners.asks_requests:
            self._log.info("{notice}", event="settings.notice", notice=HTTP2_NOTICE)
        inherited, self._inherited = self._inherited, None
        if inherited is None:
            self._say_what_is_served()
            self.fleet.start(self._count, self._make_workers)
            if has_strays(self.settings, self._count):
                self.operations.settle()
            self._spawner.replenish()
            self._start_notice.begin()
        else:
            self.upgrade_state.restore_state(inherited, self._make_workers)
            # The file may have changed since they were told.
            self._rotation.announce(self._spawner.spec.secrets)
        self._listeners.accept()

    def _say_what_is_served(self) -> None:
        hosts: list[Any] = [port.getHost() for port in self.ports]
        addresses = [
            (host.host, host.port) if hasattr(host, "port") else str(host.name) for host in hosts
        ]
        text = banner(self.settings, addresses, self._count, os.getpid())
        self._log.info("{banner}", event="primary.banner", banner=text)

    def _run_as(self, settings: Settings) -> None:
        try:
            self._spawner.run_as(*identity(settings.uid, settings.gid))
        except SettingError as problem:
            if self._inherited is None:
                raise
            self._log.error(
                "{problem}; no worker can be started", event="worker.no-user", problem=problem
            )

    @override
    def stopService(self) -> Deferred[None]:
        """
        Accept no more, let what is under way finish, end the workers.

        :return: fires when the last worker has exited, at the latest a little after
            ``settings.lame_duck`` and ``settings.stop_timeout``.
        """
        super().stopService()
        self._start_notice.end()
        self.operations.stop()
        stopped = self._stopped.wait()
        seconds = self.settings.lame_duck
        if seconds and self.fleet.running:
            self._log.info(
                "Not ready any more: in {seconds:g} s, when clients go elsewhere, it stops",
                event="stop.lame-duck",
                seconds=seconds,
            )
            self._lame = self._reactor.callLater(seconds, self._close)
        elif self._lame is None:
            self._close()
        return stopped

    def _close(self) -> None:
        self._lame = None
        self._log.info("Stopping: requests under way may finish", event="stop.begun")
        waits = self._listeners.close()
        waits.append(self._spawner.stop())
        waits.append(self.fleet.stop(self.settings.stop_timeout))
        gatherResults(waits).addBoth(self._closed)

    def _closed(self, outcome: Any) -> None:
        if isinstance(outcome, Failure):
            self._stopped.fail(outcome)
        else:
            self._stopped.fire()

    def health(self) -> Health:
        """
        Say whether clients should come.
        """
        settings = self.settings
        leaves = "it stops soon" if self._lame is not None else self.operations.withdrawal
        return health_of(self.fleet, leaves, settings.ready_slots, settings.ready_store == "on")

    def stop_at_once(self) -> None:
        """
        Wait no longer for requests under way, once the end has begun.
        """
        if self._lame is not None:
            self._lame.cancel()
            self._close()
        self.fleet.stop_at_once()

    def kill_workers(self) -> None:
        """
        End every worker by SIGKILL.
        """
        for worker in self.fleet.table.workers():
            worker.kill()

    # while it runs

    def reopen_logs(self) -> None:
        """
        Have the workers open their access log again.
        """
        for worker in self.fleet.table.workers():
            worker.reopen_log()

    def explain(self, client: Client) -> Explanation:
        """
        Say which slot serves a client now, and why; and its worker, and what that is doing.

        Asking changes nothing: no client is remembered, no newcomer is given a slot.

        :raises SettingError: if the client's address is none.
        """
        known = FleetView(self.fleet, self.settings.placement)
        return explain_by(known, self.settings, client, self._signer)


def _table_of_clients(
    settings: Settings, table: SlotTable, count: int, clock: IReactorTime
) -> LeastLoaded | None:
    if settings.placement != LEAST:
        return None
    return LeastLoaded(
        count,
        table.loads,
        clock.seconds,
        table.is_available,
        settings.stick_limit,
        settings.stick_timeout,
    )
