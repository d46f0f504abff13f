"""
Making workers, and keeping some in reserve.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from stickyd.affinity.token import merged
from stickyd.fleet.process.adopted_process import reap
from stickyd.fleet.process.process import WorkerProcess
from stickyd.fleet.process.spec import WorkerSpec
from stickyd.fleet.slot_services import ISpawner
from stickyd.system.run_as import identity
from stickyd.system.secrets import session_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IDelayedCall

    from stickyd.affinity.key_counts import Report
    from stickyd.fleet.backoff import Backoff
    from stickyd.fleet.interfaces import IFleet
    from stickyd.fleet.process.launcher import Launcher
    from stickyd.fleet.process.process import WorkerEvents
    from stickyd.fleet.process.recycle import Recycling
    from stickyd.fleet.process.spec import IWorkerReactor
    from stickyd.fleet.slot import Slot
    from stickyd.interfaces import IReadiness
    from stickyd.messaging.hub import BusHub
    from stickyd.settings import Settings


class _SlotEvents:
    """
    What happens to the worker of a slot, for that slot's state machine.
    """

    def __init__(
        self,
        ready: Callable[[], None],
        died: Callable[[str], None],
        recycling: Recycling,
        accepted: Callable[[Report], object],
    ) -> None:
        self._ready = ready
        self._died = died
        self._recycling = recycling
        self._accepted = accepted

    def ready(self, worker: WorkerProcess) -> None:
        self._ready()

    def died(self, worker: WorkerProcess, cause: str) -> None:
        self._recycling.forget(worker.pid)
        self._died(cause)

    def leaving(self, worker: WorkerProcess) -> None:
        self._recycling.recycle(worker, "told", "it was told to end")

    def beat(self, worker: WorkerProcess) -> None:
        self._recycling.seen(worker)
        accepted = worker.heartbeats.accepted
        if accepted is not None:
            self._accepted(accepted)


@implementer(ISpawner)
class Spawner:
    """
    Makes workers, and keeps spares.

    A spare has started, imported the application and waits; a slot that wants a worker
    gets it at once, and another one is started in its place.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IWorkerReactor,
        readiness: IReadiness,
        launcher: Launcher,
        fleet: IFleet,
        backoff: Backoff,
        recycling: Recycling,
        hub: BusHub,
        accepted: Callable[[Report], object] = lambda report: None,
    ) -> None:
        """
        :param launcher: starts their processes; ended by :meth:`stop`.
        :param hub: has all workers on the bus.
        :param accepted: told what workers say of connections that they have accepted
            by themselves.
        """
        self._reactor = reactor
        self._readiness = readiness
        self._launcher = launcher
        self._fleet = fleet
        self._backoff = backoff
        self._recycling = recycling
        self._hub = hub
        self._accepted = accepted
        self._ready: list[WorkerProcess] = []
        self._starting: list[WorkerProcess] = []
        self._ending: list[WorkerProcess] = []
        self._wanting: deque[Callable[[], bool]] = deque()
        self._failures = 0
        self._retry: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None

    @property
    def spec(self) -> WorkerSpec:
        """
        What the next workers are started with.
        """
        return self._launcher.spec

    def run_as(self, uid: int | None, gid: int | None) -> None:
        """
        Start the next workers as this user and group.

        :param uid: None for our own, as it is by now.
        :param gid: the same.
        """
        self._launcher.follow(replace(self.spec, uid=uid, gid=gid))

    @property
    def spare(self) -> bool:
        """
        Whether a spare is ready.
        """
        return bool(self._ready)

    @property
    def spares(self) -> list[WorkerProcess]:
        """
        The workers that wait, or start, without a slot.
        """
        return [*self._ready, *self._starting]

    @property
    def unplaced(self) -> list[int]:
        """
        The processes without a slot, those that are about to end too.
        """
        spares = [worker.pid for worker in (*self.spares, *self._ending) if worker.lives]
        return [*spares, *self._launcher.pids]

    def call_when_spare(self, call: Callable[[], bool]) -> None:
        if self.spec.settings.spares and call not in self._wanting:
            self._wanting.append(call)

    def spawn(
        self, slot: Slot, ready: Callable[[], None], died: Callable[[str], None]
    ) -> WorkerProcess:
        events = _SlotEvents(ready, died, self._recycling, self._accepted)
        if self._ready:
            worker = self._ready.pop(0)
            worker.assign(slot, events)
            self._reactor.callLater(0, self._if_alive, worker, ready)
            self.replenish()
            return worker
        worker = self._make(events, slot)
        worker.start()
        return worker

    def _if_alive(self, worker: WorkerProcess, ready: Callable[[], None]) -> None:
        if not worker.ended:
            ready()

    def _make(self, events: WorkerEvents, slot: Slot | None) -> WorkerProcess:
        return WorkerProcess(
            self._reactor,
            self._readiness,
            self._launcher,
            self._fleet,
            events,
            slot,
            self._hub,
        )

    def restore(
        self,
        slot: Slot,
        ready: Callable[[], None],
        died: Callable[[str], None],
        plain: dict[str, Any],
    ) -> WorkerProcess:
        """
        Have a worker that was started before the primary replaced itself.

        :param plain: what :meth:`WorkerProcess.dump_state` gave.
        """
        events = _SlotEvents(ready, died, self._recycling, self._accepted)
        worker = self._make(events, slot)
        worker.restore_state(plain)
        return worker

    def reap(self, pids: Sequence[int]) -> None:
        """
        End the workers that had no clients yet when this process replaced its code.
        """
        reap(self._reactor, self._readiness, pids)

    # spares

    def replenish(self) -> None:
        """
        Have as many spares as the settings say.
        """
        missing = self.spec.settings.spares - len(self._ready) - len(self._starting)
        if self._stopped is None and self._retry is None:
            for _ in range(missing):
                worker = self._make(self, None)
                self._starting.append(worker)
                worker.start()

    def renew(self, spec: WorkerSpec) -> None:
        """
        Start workers with ``spec`` from now on, and replace the spares.
        """
        self._launcher.renew(spec)
        for worker in self.spares:
            self._dismiss(worker)
        self._ready, self._starting = [], []
        self.replenish()

    def verify_also(self, secrets: Sequence[bytes]) -> list[Deferred[None]]:
        """
        Have the spares, and all workers that are started before :meth:`renew`, accept tokens
        that are signed with these secrets too; what they sign with stays.

        :return: each fires when its worker does.
        """
        known = self.spec.secrets
        if known:
            self._launcher.follow(replace(self.spec, secrets=merged(known, secrets)))
        return [worker.verify_also(secrets) for worker in self.spares]

    def _dismiss(self, worker: WorkerProcess) -> None:
        self._ending.append(worker)
        worker.stop(0.0)

    def stop(self) -> Deferred[None]:
        """
        End the spares, and start no more workers.

        :return: fires when no process is left but the workers of slots.
        """
        self._stopped = Deferred()
        launcher_stopped = self._launcher.stop()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for worker in self.spares:
            self._dismiss(worker)
        self._ready, self._starting = [], []
        stopped = self._stopped
        self._look_whether_stopped()
        return stopped.addCallback(lambda _: launcher_stopped).addCallback(lambda _: None)

    def _look_whether_stopped(self) -> None:
        if self._stopped is not None and not self._ending and not self._stopped.called:
            self._stopped.callback(None)

    # WorkerEvents, of spares

    def ready(self, worker: WorkerProcess) -> None:
        if worker in self._starting:
            self._failures = 0
            self._starting.remove(worker)
            self._ready.append(worker)
            while self._wanting and not self._wanting.popleft()():
                pass

    def died(self, worker: WorkerProcess, cause: str) -> None:
        worker.reclaim()
        if worker in self._ending:
            self._ending.remove(worker)
            self._look_whether_stopped()
            return
        for waiting in (self._ready, self._starting):
            if worker in waiting:
                waiting.remove(worker)
        self._failures += 1
        delay = self._backoff.delay(self._failures)
        self._log.error(
            "Spare worker {pid} {cause}; next start in {delay:.2f} s",
            event="worker.spare-died",
            pid=worker.pid,
            cause=cause,
            delay=delay,
        )
        if self._retry is None and self._stopped is None:
            self._retry = self._reactor.callLater(delay, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self.replenish()

    def leaving(self, worker: WorkerProcess) -> None:
        worker.stop(0.0)

    def beat(self, worker: WorkerProcess) -> None:
        """
        A spare serves nobody, so its figures say nothing.
        """


def spec_of(settings: Settings, secrets: tuple[bytes, ...], run: str = "00000000") -> WorkerSpec:
    """
    What the workers of these settings are started with.

    :param secrets: as :class:`WorkerSpec` has them.
    :param run: the same.
    :raises SettingError: if there is no such user or group, or we may not become it; or if the
        keys of sessions cannot be had.
    """
    return WorkerSpec(
        worker_command(settings),
        settings,
        *identity(settings.uid, settings.gid),
        secrets,
        session_keys(settings),
        run,
    )


def worker_command(settings: Settings) -> list[str]:
    """
    The command line of a worker.
    """
    return [sys.executable, "-m", "stickyd.worker", "--reactor", settings.worker_reactor]
