"""
The primary's end of a worker's control channel: what the worker says, and what it is told.
"""

from __future__ import annotations

import sys
from enum import IntEnum
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import connectionDone
from typing_extensions import override

from stickyd.affinity.key_counts import Report
from stickyd.affinity.resolve import LEARNED_ID_BYTES
from stickyd.affinity.spec import LearnKey
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
from stickyd.control.figures import read_figures
from stickyd.errors import ControlError, WorkerError
from stickyd.figures.app_figures import AppSeen
from stickyd.fleet.process.candidate import Candidate
from stickyd.handoff.frame import MAX_KEY_BYTES
from stickyd.net.allowance import Allowance
from stickyd.settings.table import MOST_WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.protocols.amp import Command
    from twisted.python.failure import Failure

    from stickyd.fleet.interfaces import IFleet
    from stickyd.fleet.process.label import WorkerLabel
    from stickyd.fleet.process.spec import WorkerSpec
    from stickyd.fleet.process.termination import Termination
    from stickyd.settings import Settings


#: How many heartbeats there may be for each that is due, and how many at once: what a
#: primary that was suspended finds is no more than fits into the socket.
_BEATS_FOR_ONE = 10.0
_BEATS_AT_ONCE = 4096

#: How many messages of what its application counts it may send.
_APP_FIGURES_PER_SECOND = 1_000.0
_APP_FIGURES_AT_ONCE = 8_192

#: How often a worker may ask to be relieved.
_LEAVES_PER_SECOND = 10.0
_LEAVES_AT_ONCE = 1024

#: What no term reaches in many thousand years: they are of the time of day in milliseconds.
_MOST_TERM = 2**53

#: How often its application may change its mind about leading, and it may renew a lease.
_STANDS_PER_SECOND = 10.0
_STANDS_AT_ONCE = 1024

#: How many ids it may claim.
_CLAIMS_PER_SECOND = 20_000.0
_CLAIMS_AT_ONCE = 65_536

#: How many clients it may name that it keeps, or keeps no longer: all of them at every change,
#: and what it forgets.
_KNOWN_PER_SECOND = 100_000.0
_KNOWN_AT_ONCE = 1_000_000

#: How often it may name all that it may know (``--known-limit``) at once.
_ALL_KNOWN_AT_ONCE = 10

#: How many chunks of sessions may be on their way at a time; a worker sends them one by one.
_MOST_CHUNKS = 4

#: Seconds for which an answer that is overdue is waited for once more: a primary that was
#: itself suspended finds it in the socket.
_SECOND_LOOK_SECONDS = 1.0


class Gives(IntEnum):
    """
    Whose sessions a worker may send: it has some to give away only once it was told to.
    """

    NOTHING = 0
    #: To its successor.
    OWN_SLOT = 1
    #: Wherever they belong by a new placement.
    ANY_SLOT = 2


class WorkerControl(ControlProtocol):
    """
    The control channel of one worker.

    :ivar app: what its application has counted.
    :ivar candidate: its part in the choice of a leader.
    :ivar closed: fires when all that the worker has ever said is heard.
    :ivar gives: which sessions it may send.
    :ivar generation: of the worker; 0 for a spare.
    """

    def __init__(
        self,
        fleet: IFleet,
        clock: IReactorTime,
        settings: Settings,
        slot: int,
        termination: Termination,
        beats: Callable[[dict[str, float], Report | None], object],
        wants_to_leave: Callable[[], object],
        label: WorkerLabel,
    ) -> None:
        """
        :param settings: what the worker runs with.
        :param slot: the one that it occupies; -1 for a spare.
        :param termination: ends it if it breaks the protocol.
        :param beats: told the figures of each heartbeat, and what that says of connections
            that the worker has accepted by itself.
        :param wants_to_leave: called when somebody has sent the worker SIGTERM.
        :param label: names it in the log.
        """
        super().__init__()
        self._slot = slot
        self._termination = termination
        self._beats = beats
        self._wants_to_leave = wants_to_leave
        self.candidate = Candidate(fleet.election, label, self.lead)
        self.app = AppSeen(fleet.app_figures)
        self._fleet = fleet
        self._clock = clock
        self._answer_seconds = settings.hang_timeout
        self._learns = any(isinstance(key, LearnKey) for key in settings.keys.keys)
        self._beats_left = Allowance(
            clock.seconds, _BEATS_FOR_ONE / settings.heartbeat, _BEATS_AT_ONCE
        )
        self._app_figures_left = Allowance(
            clock.seconds, _APP_FIGURES_PER_SECOND, _APP_FIGURES_AT_ONCE
        )
        self._leaves = Allowance(clock.seconds, _LEAVES_PER_SECOND, _LEAVES_AT_ONCE)
        self._stands = Allowance(clock.seconds, _STANDS_PER_SECOND, _STANDS_AT_ONCE)
        self._claims = Allowance(clock.seconds, _CLAIMS_PER_SECOND, _CLAIMS_AT_ONCE)
        self._known = Allowance(
            clock.seconds,
            max(_KNOWN_PER_SECOND, settings.known_limit),
            max(_KNOWN_AT_ONCE, _ALL_KNOWN_AT_ONCE * settings.known_limit),
        )
        self._chunks = 0
        self._keeps = False
        self.generation = 0
        self.gives = Gives.NOTHING
        self.closed: Deferred[None] = Deferred()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.closed.callback(None)
        self._termination.control_lost()

    @override
    def breach(self, problem: str) -> None:
        self._termination.breach("control channel", problem)

    # what the worker says

    @Beat.responder
    def beat(self, figures: str, accepted: str | None = None) -> dict[str, object]:
        if not self._beats_left.take():
            self.stop_listening("heartbeats without end")
            return {}
        try:
            told = read_figures(figures)
            report = None if accepted is None else Report.from_json(accepted)
        except ControlError as problem:
            self.stop_listening(str(problem))
        except ValueError as problem:
            self.stop_listening(f"a report of what it has accepted with {problem}")
        else:
            self._beats(told, report)
        return {}

    @AppFigures.responder
    def app_figures(self, told: str) -> dict[str, object]:
        if not self._app_figures_left.take():
            self.stop_listening("metrics of the application without end")
            return {}
        try:
            if self._slot >= 0:
                self.app.hear(self._slot, told)
        except ControlError as problem:
            self.stop_listening(str(problem))
        return {}

    @Leave.responder
    def leave(self) -> dict[str, object]:
        if self._leaves.take():
            self._wants_to_leave()
        else:
            self.stop_listening("requests to be relieved without end")
        return {}

    @Stand.responder
    def stand(self, stands: bool) -> dict[str, object]:
        if self._stands.take():
            self.candidate.ask(stands)
        else:
            self.stop_listening("changes of its mind about leading without end")
        return {}

    @LeaseHeld.responder
    def lease_held(self, term: int, until: float) -> dict[str, object]:
        if not self._stands.take():
            self.stop_listening("renewals of a lease without end")
        elif not (0 < term < _MOST_TERM and isfinite(until)):
            self.stop_listening("the renewal of a lease that is none")
        elif not self.candidate.hold(term, until):
            self.stop_listening("the renewal of a lease, where it does not lead")
        return {}

    @LeadEnded.responder
    def lead_ended(self, term: int) -> dict[str, object]:
        if not self.candidate.end(term):
            self.stop_listening("the end of a term for which it does not lead")
        return {"goes_on": self._fleet.election.is_led}

    @Claim.responder
    def claim(self, identifiers: list[bytes]) -> dict[str, object]:
        if identifiers and not self._learns:
            self.stop_listening("a claim, where no entry of --affinity learns ids")
        elif any(len(identifier) != LEARNED_ID_BYTES for identifier in identifiers):
            self.stop_listening(f"a claim of an id that is not {LEARNED_ID_BYTES} bytes long")
        elif not self._claims.take(len(identifiers)):
            self.stop_listening("claims without end")
        elif self._slot >= 0:  # a spare has no clients
            self._fleet.claim(self._slot, identifiers, self.generation)
        return {}

    @Known.responder
    def known(
        self, keys: list[bytes], identifiers: list[bytes], gone: bool, finished: bool
    ) -> dict[str, object]:
        objection = self._objection_to_known(keys, identifiers)
        if objection:
            self.stop_listening(objection)
            return {}
        home = self._slot, self.generation
        self._fleet.learn(home, keys, identifiers, gone)
        if finished:
            self._fleet.finished(home)
        return {}

    def _objection_to_known(self, keys: list[bytes], identifiers: list[bytes]) -> str:
        if not self._keeps:
            return "a report of whom it knows, where it was not asked"
        if any(not 1 <= len(key) <= MAX_KEY_BYTES for key in keys):
            return f"a report of a key that is not of 1 to {MAX_KEY_BYTES} bytes"
        if any(len(identifier) != LEARNED_ID_BYTES for identifier in identifiers):
            return f"a report of an id that is not {LEARNED_ID_BYTES} bytes long"
        if identifiers and not self._learns:
            return "a report of an id, where no entry of --affinity learns ids"
        if not self._known.take(len(keys) + len(identifiers) + 1):
            return "reports of whom it knows without end"
        return ""

    @Sessions.responder
    def sessions(self, slot: int, chunk: bytes) -> Deferred[dict[str, object]]:
        objection = self._objection_to_sessions(slot)
        if objection:
            self.stop_listening(objection)
            return succeed({})
        self._chunks += 1
        return self._fleet.adopt_sessions(slot, chunk).addCallbacks(self._taken, self._not_taken)

    def _objection_to_sessions(self, slot: int) -> str:
        if not 0 <= slot < MOST_WORKERS:
            return f"sessions for slot {slot}, where there are {MOST_WORKERS} at most"
        if self.gives is Gives.NOTHING or self._slot < 0:
            return f"sessions for slot {slot}, where it was to keep its own"
        if self.gives is Gives.OWN_SLOT and slot != self._slot:
            return f"sessions for slot {slot}, where they go to its successor in slot {self._slot}"
        if self._chunks >= _MOST_CHUNKS:
            return f"more than {_MOST_CHUNKS} messages of sessions at a time"
        return ""

    def _taken(self, _: object) -> dict[str, object]:
        self._chunks -= 1
        return {}

    def _not_taken(self, failure: Failure) -> NoReturn:
        self._chunks -= 1
        # Whoever was to have them, and whatever went wrong there: the sender keeps them.  What
        # that could not read is no breach either: a worker of another version may write them
        # in another way, its clients are served meanwhile, and what it sends is bounded.
        raise WorkerError(failure.getErrorMessage())

    # what it is told

    def _ask(self, command: type[Command], **arguments: Any) -> Deferred[Any]:
        """
        Tell it something that it answers at once, or is ended for not answering.
        """

        def look_again() -> None:
            overdue[0] = self._clock.callLater(
                _SECOND_LOOK_SECONDS,
                self.stop_listening,
                f"no answer to {command.__name__} for {self._answer_seconds:g} s",
            )

        def answered(result: object) -> object:
            if overdue[0].active():
                overdue[0].cancel()
            return result

        overdue: list[IDelayedCall] = [self._clock.callLater(self._answer_seconds, look_again)]
        answer: Deferred[Any] = self.callRemote(command, **arguments)
        return answer.addBoth(answered)

    def serve(self, spec: WorkerSpec, generation: int) -> Deferred[object]:
        """
        Ask it to serve.

        :param generation: the worker's; 0 for a spare.
        :return: as :class:`Serve` says.
        """
        self.generation = generation
        answer: Deferred[object] = self.callRemote(
            Serve,
            settings=spec.settings.to_json(),
            slot=self._slot,
            path=[entry for entry in sys.path if entry],
            secrets=list(spec.secrets),
            session_keys=list(spec.session_keys),
            slots=self._fleet.places()[0],
            generation=generation,
            run=spec.run,
        )
        return answer

    def go_on(self, gives: Gives, generation: int, keeps: bool) -> None:
        """
        Take a worker over from the former self of this primary.

        :param gives: which sessions it may send by now.
        :param generation: the worker's.
        :param keeps: whether it may say whom it keeps.
        """
        self.gives = gives
        self.generation = generation
        self._keeps = keeps

    @property
    def keeps(self) -> bool:
        """
        Whether it was told to keep the clients that it knows.
        """
        return self._keeps

    def keep(self, slots: int, available: Sequence[int]) -> Deferred[object]:
        """
        Have it keep the clients that it knows; see :class:`Keep`.

        :return: fires when it has said whom; fails if it dies first.
        """
        self._keeps = True
        # The sessions of clients that it does not know.
        self._may_give(slots)
        answer: Deferred[object] = self.callRemote(Keep, slots=slots, standing=list(available))
        return answer

    def tell_places(self, slots: int, available: Sequence[int]) -> Deferred[object]:
        """
        Tell it how clients are placed.

        :return: fires when it knows; fails if it dies first.
        """
        if self.gives is not Gives.NOTHING:
            # What is late may belong elsewhere by now.
            self.gives = Gives.ANY_SLOT
        homes, keyed = self._fleet.kept()
        keepers = [number for home in homes for number in home]
        return self._ask(Place, slots=slots, standing=list(available), keepers=keepers, keyed=keyed)

    def verify_also(self, secrets: Sequence[bytes]) -> Deferred[object]:
        """
        Have it take tokens for good that are signed with these secrets.

        :return: fires when it does; fails if it dies first.
        """
        return self._ask(Verify, secrets=list(secrets))

    def release(self, slots: int, available: Sequence[int]) -> Deferred[object]:
        """
        Ask it to give away; see :class:`Release`.

        :return: fires when it has; fails if it dies first.
        """
        self._may_give(slots)
        answer: Deferred[object] = self.callRemote(Release, slots=slots, standing=list(available))
        return answer

    def _may_give(self, slots: int) -> None:
        self.gives = max(self.gives, Gives.ANY_SLOT if slots else Gives.OWN_SLOT)

    def stay(self) -> None:
        """
        Have it give nothing away any more.
        """
        self._tell(Release, slots=-1, standing=[])

    def occupy(self, slot: int, generation: int) -> None:
        """
        Give it a slot, and its generation there.
        """
        self._slot, self.generation = slot, generation
        self._ask(Occupy, slot=slot, generation=generation).addErrback(lambda _: None)

    def lead(self, term: int) -> None:
        """
        Have it lead; see :class:`Lead`.
        """
        election = self._fleet.election
        held_term, held_until = election.held
        self._tell(Lead, term=term, fleet=election.name, held_term=held_term, held_until=held_until)

    def look(self, what: str) -> Deferred[str]:
        """
        Ask what it is doing, for an operator; see :class:`Look`.

        :return: fires with its answer, which is JSON as far as is known; fails if it dies first.
        """
        answer: Deferred[dict[str, str]] = self.callRemote(Look, what=what)
        return answer.addCallback(lambda told: told["told"])

    def accept(self) -> None:
        """
        Have it accept again where it was entrusted to.
        """
        self._tell(Accept)

    def reopen_log(self) -> None:
        """
        Have it open its access log again.
        """
        self._tell(ReopenLog)

    def ask_for_app_figures(self) -> Deferred[object]:
        """
        Have it tell what its application has counted.

        :return: fires when it has; fails if it dies first.
        """
        answer: Deferred[object] = self.callRemote(TellAppFigures)
        return answer

    def stop(self, patience: float) -> None:
        """
        Have it finish within so many seconds, and exit.
        """
        self._tell(Stop, patience=patience)

    def give_sessions(self, chunk: bytes) -> Deferred[None]:
        """
        Have it take over sessions.

        :return: fires when it has; fails if it dies first.
        """
        return self._ask(Sessions, slot=self._slot, chunk=chunk).addCallback(lambda _: None)

    def _tell(self, command: type[Command], **arguments: Any) -> None:
        # Its death is what an error here would mean, and is told anyway.
        self.callRemote(command, **arguments).addErrback(lambda _: None)
