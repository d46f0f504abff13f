"""
The worker's end of the control channel: every order of the primary's, and all that it is told.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import connectionDone
from typing_extensions import override

from stickyd.control.commands import (
    Accept,
    AppFigures,
    Beat,
    Claim,
    ControlProtocol,
    Keep,
    Known,
    Lead,
    LeadEnded,
    LeaseHeld,
    Leave,
    Look,
    Occupy,
    Place,
    Release,
    ReopenLog,
    Serve,
    Sessions,
    Stand,
    Stop,
    TellAppFigures,
    Verify,
)
from stickyd.worker.keys import NO_RUN, WorkerKeys
from stickyd.worker.looking import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from stickyd.identity.fleet_keys import FleetKeys
    from stickyd.identity.worker_info import WorkerInfo
    from stickyd.worker.server import Serving


class PrimaryLink(ControlProtocol):
    """
    Has the primary's orders carried out.

    :ivar serving: what carries them out, once it was made.
    """

    def __init__(
        self,
        serve: Callable[[str, int, WorkerKeys], Deferred[None]],
        stop: Callable[[float], None],
        lost: Callable[[], None],
        info: WorkerInfo,
        keys: FleetKeys,
        lead: Callable[[int, str, tuple[int, float]], object],
        relieve: Callable[[bool], object],
    ) -> None:
        """
        :param serve: called once, with the settings as text, the slot, and what the worker is
            entrusted with beside them; its answer fires when we serve, or fails with
            :exc:`StartFailed`.  It calls :meth:`obey_with`, as orders may come before that.
        :param stop: called with the seconds that we have, more than once perhaps.
        :param lost: called when the primary is gone.
        :param info: told what the worker is.
        :param keys: told which secrets others are about to use.
        :param lead: called when this worker is to lead: see :class:`Lead`.
        :param relieve: told whether a successor takes over, or the slot goes.
        """
        super().__init__()
        self._serve = serve
        self._stop = stop
        self._lost = lost
        self._info = info
        self._keys = keys
        self._lead = lead
        self._relieve = relieve
        self.serving: Serving | None = None

    @property
    def is_open(self) -> bool:
        """
        Whether the primary can hear us.
        """
        return self.transport is not None

    def begin_with(self, read: bytes, call_later: Callable[..., object]) -> None:
        """
        Act on what was read from the channel before, as soon as the loop runs.
        """
        transport: Any = self.transport
        # Nothing may be read that came later.
        transport.pauseProducing()

        def begin() -> None:
            self.dataReceived(read)
            transport.resumeProducing()

        call_later(0, begin)

    def obey_with(self, serving: Serving) -> None:
        """
        Have orders carried out from now on.
        """
        self.serving = serving

    # what the primary orders

    @Serve.responder
    def serve(
        self,
        settings: str,
        slot: int,
        path: list[str],
        secrets: list[bytes],
        session_keys: list[bytes] | None = None,
        slots: int | None = None,
        generation: int | None = None,
        run: str | None = None,
    ) -> Deferred[dict[str, object]]:
        # The path and the slots were heeded before the reactor ran: see
        # stickyd.worker.first_order.
        keys = WorkerKeys(tuple(secrets), tuple(session_keys or ()), generation or 0, run or NO_RUN)
        return self._serve(settings, slot, keys).addCallback(lambda _: {})

    @Occupy.responder
    def occupy(self, slot: int, generation: int | None = None) -> dict[str, object]:
        self._info.occupy(slot, generation or 0)
        if self.serving is not None:
            self.serving.occupy(slot, generation or 0)
        return {}

    @Place.responder
    def place(
        self,
        slots: int,
        standing: list[int],
        keepers: list[int] | None = None,
        keyed: bool | None = None,
    ) -> dict[str, object]:
        self._info.place(slots)
        if self.serving is not None:
            self.serving.homes.places.note_keepers(keepers or [], bool(keyed))
            self.serving.place(slots, standing)
        return {}

    @Keep.responder
    def keep(self, slots: int, standing: list[int]) -> Deferred[dict[str, object]]:
        assert self.serving is not None
        self._give_away(slots)
        return self.serving.keep(slots, standing).addCallback(lambda _: {})

    @Verify.responder
    def verify(self, secrets: list[bytes]) -> dict[str, object]:
        self._keys.know_also(secrets)
        if self.serving is not None:
            self.serving.verify_also(secrets)
        return {}

    @Sessions.responder
    def sessions(self, slot: int, chunk: bytes) -> Deferred[dict[str, object]]:
        assert self.serving is not None
        return self.serving.retirement.take_in(chunk).addCallback(lambda _: {})

    @Release.responder
    def release(self, slots: int, standing: list[int]) -> Deferred[dict[str, object]]:
        assert self.serving is not None
        self._give_away(slots)
        if slots < 0:
            self.serving.stay()
            return succeed({})
        return self.serving.release(slots, standing).addCallback(lambda _: {})

    def _give_away(self, slots: int) -> None:
        self._info.give_away(slots)
        self._relieve(self._info.relieved)

    @Lead.responder
    def lead(self, term: int, fleet: str, held_term: int, held_until: float) -> dict[str, object]:
        self._lead(term, fleet, (held_term, held_until))
        return {}

    @Accept.responder
    def accept(self) -> dict[str, object]:
        assert self.serving is not None
        self.serving.listening.accept()
        return {}

    @ReopenLog.responder
    def reopen_log(self) -> dict[str, object]:
        if self.serving is not None:
            self.serving.reopen_log()
        return {}

    @Look.responder
    def look(self, what: str) -> dict[str, object]:
        return {"told": self.tell(what)}

    def tell(self, what: str) -> str:
        """
        Say what is served; see :func:`stickyd.worker.looking.tell`.
        """
        return "{}" if self.serving is None else tell(what, self.serving.host)

    @Stop.responder
    def stop(self, patience: float) -> dict[str, object]:
        self._info.leave()
        self._stop(patience)
        return {}

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._info.leave()
        self._lost()

    @TellAppFigures.responder
    def tell_app_figures(self) -> dict[str, object]:
        if self.serving is not None:
            self.send_app_figures(self.serving, True)
        return {}

    # what the primary is told

    def send_app_figures(self, serving: Serving, asked: bool) -> Deferred[object]:
        """
        Tell what has changed of what the application counts.

        :param asked: whether somebody waits for it.
        :return: fires when the primary knows; fails if it is gone.
        """
        told: Deferred[object] = succeed(None)
        for message in serving.app_metrics.changes(asked):
            told = self.callRemote(AppFigures, told=message)
            told.addErrback(lambda _: None)  # it is gone, which is told otherwise
        return told

    def beat(self, serving: Serving) -> None:
        """
        Tell that we are alive, and how much we do.
        """
        accepted = serving.report()
        self.callRemote(
            Beat,
            figures=json.dumps(serving.figures()),
            accepted=None if accepted is None else accepted.to_json(),
        )
        self.send_app_figures(serving, False)

    def ask_to_leave(self) -> None:
        """
        Tell the primary that we were asked to end.
        """
        self.callRemote(Leave)

    def stand(self, stands: bool) -> None:
        """
        Tell whether our application wants to lead.
        """
        self.callRemote(Stand, stands=stands)

    def lease_held(self, term: int, until: float) -> None:
        """
        Tell for which term, and until when, our fleet has the lease of all machines.
        """
        self.callRemote(LeaseHeld, term=term, until=until)

    def lead_ended(self, term: int) -> Deferred[bool]:
        """
        Tell that we do not lead any more.

        :return: fires with whether another worker of this machine goes on; false if the primary
            does not answer.
        """
        told: Deferred[dict[str, bool]] = self.callRemote(LeadEnded, term=term)
        return told.addCallbacks(lambda answer: answer["goes_on"], lambda _: False)

    def send_sessions(self, slot: int, chunk: bytes) -> Deferred[None]:
        """
        Have sessions taken over by the worker of a slot.

        :return: fires when it has them.
        """
        sent: Deferred[None] = self.callRemote(Sessions, slot=slot, chunk=chunk)
        return sent.addCallback(lambda _: None)

    def send_known(
        self, keys: list[bytes], identifiers: list[bytes], gone: bool, finished: bool
    ) -> Deferred[object]:
        """
        Tell whom we keep, or keep no longer.

        :return: fires when the primary knows.
        """
        told: Deferred[object] = self.callRemote(
            Known, keys=keys, identifiers=identifiers, gone=gone, finished=finished
        )
        return told

    def send_claims(self, identifiers: list[bytes]) -> Deferred[object]:
        """
        Tell which ids are of our clients.

        :return: fires when the primary knows.
        """
        told: Deferred[object] = self.callRemote(Claim, identifiers=identifiers)
        return told
