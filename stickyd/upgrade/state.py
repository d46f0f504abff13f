"""
The state of a primary, for the one that it becomes when it replaces its own code.

:mod:`stickyd.upgrade.upgrade` chooses the moment; this is what is written down then, and
what is done with it afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from stickyd.fleet.fleet import Fleet
    from stickyd.fleet.operations import Operations
    from stickyd.fleet.process.spawner import Spawner
    from stickyd.fleet.slot import Slot
    from stickyd.fleet.slot_workers import SlotWorkers
    from stickyd.fleet.trials import ITrial
    from stickyd.listen.listeners import Listeners
    from stickyd.messaging.hub import BusHub
    from stickyd.placement.least import LeastLoaded
    from stickyd.system.secrets import Secrets


class UpgradeState:
    """
    Writes down the state of a primary, and goes on from one that was written down.
    """

    def __init__(
        self,
        listeners: Listeners,
        fleet: Fleet,
        spawner: Spawner,
        operations: Operations,
        secrets: Secrets,
        stick: LeastLoaded | None,
        bus: BusHub,
    ) -> None:
        """
        :param stick: the table of the ``least`` placement, if that places.
        """
        self._listeners = listeners
        self._fleet = fleet
        self._spawner = spawner
        self._operations = operations
        self._secrets = secrets
        self._stick = stick
        self._bus = bus

    @property
    def running(self) -> bool:
        """
        Whether the primary runs, and does not stop.
        """
        return self._fleet.running

    @property
    def descriptions(self) -> list[str]:
        """
        The endpoints that it listens on.
        """
        return self._listeners.descriptions

    def exclusively(self, act: Callable[[], Deferred[None]]) -> Deferred[None]:
        """
        Act when no reload, resize or drain is under way; none begins until what it
        returns has fired.
        """
        return self._operations.exclusively(act)

    def pause(self) -> None:
        """
        Let newcomers wait in the kernel's queue.
        """
        self._listeners.pause()

    def proceed(self) -> None:
        """
        Accept again.
        """
        self._listeners.proceed()

    @property
    def unsettled(self) -> list[str]:
        """
        The workers of which the state cannot be written down now.
        """
        return self._fleet.unsettled

    @property
    def import_seconds(self) -> float:
        """
        How long the application may take to import.
        """
        return self._operations.settings.start_timeout

    def try_out(self, trial: ITrial) -> Deferred[None]:
        """
        Try the new code beside the reactor, unless the primary stops.

        :return: fires, or fails, as the trial does.
        """
        return self._operations.try_out(trial)

    def dump_state(self) -> dict[str, Any]:
        """
        The whole state as JSON can carry it, descriptors by number.

        :raises OperatorError: if a port is of a kind that cannot be carried on.
        """
        listeners = self._listeners.dump_state()
        fleet = self._fleet.dump_state()
        canary = self._operations.canary
        return {
            **listeners,
            "workers": self._operations.settings.workers,
            "wanted": self._operations.wanted,
            "withdrawn": bool(self._operations.withdrawal),
            "stick": None if self._stick is None else self._stick.snapshot(),
            "fleet": fleet,
            "bus": self._bus.dump_state(),
            "secret": self._secrets.own.hex(),
            "secrets": [secret.hex() for secret in self._spawner.spec.secrets],
            "former": self._operations.settings.to_json(),
            "canary": canary and canary.dump_state(),
            "unready": [
                *self._spawner.unplaced,
                *(pid for slot in fleet["slots"] for pid in slot.pop("unready")),
            ],
        }

    def restore_state(
        self, inherited: dict[str, Any], make_workers: Callable[[Slot], SlotWorkers]
    ) -> None:
        """
        Go on from the state that was written down; instead of starting the fleet.

        :param inherited: what its :meth:`dump_state` gave.
        :param make_workers: makes the workers of a slot.
        """
        self._spawner.reap(inherited["unready"])
        if self._stick is not None and inherited["stick"] is not None:
            slots = len(inherited["fleet"]["slots"])
            self._stick.place(slots, range(slots)).restore(inherited["stick"])
        self._fleet.restore_state(inherited["fleet"], make_workers)
        if inherited.get("withdrawn"):
            self._operations.drain_all()
        wanted, workers = inherited["wanted"], inherited["workers"]
        if self._operations.restore_canary(inherited.get("canary")):
            self._operations.resize_as_before(wanted, workers)
        else:
            # The workers run the former code.
            self._operations.reload().addCallback(
                lambda _: self._operations.resize_as_before(wanted, workers)
            )
        self._listeners.restore_state(inherited)
