"""
Minting ids in a worker: ``stickyd.mint()``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.affinity.minted_ids import LONGEST_PREFIX, is_prefix
from stickyd.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.identity.fleet_keys import FleetKeys
    from stickyd.identity.worker_info import WorkerInfo


class Mint:
    """
    Makes ids that name this worker's slot.  Usable from any thread.
    """

    def __init__(self, worker: WorkerInfo, keys: FleetKeys) -> None:
        self._worker = worker
        self._keys = keys
        self._minted: Callable[[bytes], object] | None = None

    def mint(self, prefix: str) -> str:
        """
        Make an id; see :func:`stickyd.mint`.
        """
        if not is_prefix(prefix):
            raise ApplicationError(
                f"stickyd.mint({prefix!r}): a prefix has up to {LONGEST_PREFIX} of the letters"
                " A to Z and a to z, the digits and -._~, as in stickyd.mint('room-')"
            )
        slot = self._worker.slot
        if slot < 0:
            raise ApplicationError(
                "stickyd.mint() was called where there is no slot yet, as in a spare worker that"
                " imports the application: call it when a client wants an id"
            )
        worker = self._worker
        generation = worker.generation if worker.run else 0
        made = self._keys.minted_ids.mint(prefix, slot, worker.node, generation, worker.run)
        if self._minted is not None:
            self._minted(made.encode("ascii"))
        return made

    def call_when_minting(self, minted: Callable[[bytes], object]) -> None:
        """
        Have ``minted`` told of each id, in the thread that mints it.
        """
        self._minted = minted
