"""
One slot of a fleet with all that belongs to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.fleet.slot_machine import new_machine

if TYPE_CHECKING:
    from stickyd.fleet.interfaces import IWorker
    from stickyd.fleet.slot import Slot
    from stickyd.fleet.slot_inputs import SlotMachine
    from stickyd.fleet.slot_workers import SlotWorkers


class Member:
    """
    A slot of the fleet, with its workers and the machine that rules them.

    :ivar ended: whether it has become empty after a stop.
    """

    def __init__(self, slot: Slot, workers: SlotWorkers) -> None:
        self.slot = slot
        self.workers = workers
        self.machine: SlotMachine = new_machine(workers)
        self.ended = False

    def all_workers(self) -> list[IWorker]:
        """
        The workers of the slot that have not ended, whatever part they play.
        """
        workers = self.workers
        present = [worker for worker in (workers.worker, workers.successor) if worker is not None]
        return [*present, *workers.leaving]

    def dump_state(self) -> dict[str, Any]:
        """
        The slot as JSON can carry it, for a primary that replaces itself.
        """
        serving = self.slot.worker
        return {
            "drained": self.slot.drained,
            "generation": self.slot.generation,
            "queue": self.slot.dump_queue(),
            "worker": None if serving is None else serving.dump_state(),
            "leaving": [worker.dump_state() for worker in self.workers.leaving],
            "unready": [
                worker.pid
                for worker in (self.workers.worker, self.workers.successor)
                if worker is not None and worker is not serving and worker.lives
            ],
        }

    def dump_leaving(self) -> dict[str, Any]:
        """
        The workers of a slot that was taken away, as JSON can carry them.
        """
        return {
            "index": self.slot.index,
            "workers": [worker.dump_state() for worker in self.workers.all_ready()],
        }

    def restore_leaving(self, plain: dict[str, Any]) -> None:
        """
        Go on from what :meth:`dump_leaving` gave.
        """
        self.machine.inherit_leaving(plain["workers"])

    def restore_state(self, plain: dict[str, Any]) -> None:
        """
        Go on from what :meth:`dump_state` gave.
        """
        for each in plain["leaving"]:
            self.workers.leaving.append(self.workers.spawn(self.machine, each))
        if plain["worker"] is None:
            self.machine.start()
        else:
            self.machine.inherit(plain["worker"])
