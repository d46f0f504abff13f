"""
The primary's end of a worker's control channel: what the worker says, and what it is told.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from typing_extensions import override

from stickyd.affinity.key_counts import Report
from stickyd.control.commands import (
    Accept,
    Beat,
    Claim,
    ControlProtocol,
    Leave,
    Occupy,
    Place,
    Release,
    Serve,
    Sessions,
    Stop,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.protocols.amp import Command
    from twisted.python.failure import Failure

    from stickyd.fleet.process.process import WorkerProcess
    from stickyd.fleet.process.spec import WorkerSpec
    from stickyd.interfaces import IFleet


class WorkerControl(ControlProtocol):
    """
    The control channel of one worker.

    :ivar closed: fires when all that the worker has ever said is heard.
    """

    def __init__(self, worker: WorkerProcess, fleet: IFleet) -> None:
        super().__init__()
        self._worker = worker
        self._fleet = fleet
        self.closed: Deferred[None] = Deferred()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.closed.callback(None)

    # what the worker says

    @Beat.responder
    def beat(self, figures: str, accepted: str | None = None) -> dict[str, object]:
        self._worker.accepted = None if accepted is None else Report.from_json(accepted)
        self._worker.beat(json.loads(figures))
        return {}

    @Leave.responder
    def leave(self) -> dict[str, object]:
        self._worker.wants_to_leave()
        return {}

    @Claim.responder
    def claim(self, identifiers: list[bytes]) -> dict[str, object]:
        slot = self._worker.slot
        if slot is not None:  # a spare has no clients
            self._fleet.claim(slot.index, identifiers)
        return {}

    @Sessions.responder
    def sessions(self, slot: int, chunk: bytes) -> Deferred[dict[str, object]]:
        return self._fleet.adopt_sessions(slot, chunk).addCallback(lambda _: {})

    # what it is told

    def serve(self, birth: WorkerSpec, slot: int) -> Deferred[object]:
        """
        Ask it to serve.

        :param slot: the one that it occupies; -1 for a spare.
        :return: as :class:`Serve` says.
        """
        answer: Deferred[object] = self.callRemote(
            Serve,
            settings=birth.settings.to_json(),
            slot=slot,
            path=[entry for entry in sys.path if entry],
            secrets=list(birth.secrets),
        )
        return answer

    def tell_places(self, slots: int, standing: Sequence[int]) -> Deferred[object]:
        """
        Tell it how clients are placed.

        :return: fires when it knows; fails if it dies first.
        """
        answer: Deferred[object] = self.callRemote(Place, slots=slots, standing=list(standing))
        return answer

    def release(self, slots: int, standing: Sequence[int]) -> Deferred[object]:
        """
        Ask it to give away; see :class:`Release`.

        :return: fires when it has; fails if it dies first.
        """
        answer: Deferred[object] = self.callRemote(Release, slots=slots, standing=list(standing))
        return answer

    def stay(self) -> None:
        """
        Have it give nothing away any more.
        """
        self._tell(Release, slots=-1, standing=[])

    def occupy(self, slot: int) -> None:
        """
        Give it a slot.
        """
        self._tell(Occupy, slot=slot)

    def accept(self) -> None:
        """
        Have it accept again where it was entrusted to.
        """
        self._tell(Accept)

    def stop(self, patience: float) -> None:
        """
        Have it finish within so many seconds, and exit.
        """
        self._tell(Stop, patience=patience)

    def give_sessions(self, slot: int, chunk: bytes) -> Deferred[None]:
        """
        Have it take over sessions.

        :return: fires when it has; fails if it dies first.
        """
        answer: Deferred[None] = self.callRemote(Sessions, slot=slot, chunk=chunk)
        return answer.addCallback(lambda _: None)

    def _tell(self, command: type[Command], **arguments: Any) -> None:
        # Its death is what an error here would mean, and is told anyway.
        self.callRemote(command, **arguments).addErrback(lambda _: None)
