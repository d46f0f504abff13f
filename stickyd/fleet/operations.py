"""
What an operator orders of a primary that runs, and what the log says of it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import maybeDeferred, succeed
from twisted.logger import Logger

from stickyd.errors import OperatorError, SettingError
from stickyd.fleet.canary import Canary
from stickyd.fleet.departure_notice import DepartureNotice
from stickyd.fleet.newest_waits import NewestWaits
from stickyd.fleet.preflight import Trial
from stickyd.fleet.process.spawner import spec_of
from stickyd.fleet.slot_changes import STOPS
from stickyd.fleet.steps import Step
from stickyd.settings.reload import changed, fixed
from stickyd.settings.table import MOST_WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from stickyd.fleet.fleet import Fleet
    from stickyd.fleet.process.spawner import Spawner
    from stickyd.fleet.process.spec import WorkerSpec
    from stickyd.fleet.secret_rotation import SecretRotation
    from stickyd.fleet.slot_changes import SlotChanges
    from stickyd.fleet.steps import Change
    from stickyd.fleet.trials import ITrial, Trials
    from stickyd.settings import Settings


class Operations:
    """
    What an operator may do to a primary that runs: reload, resize, drain, undrain.  One goes
    on at a time (:class:`stickyd.fleet.slot_changes.SlotChanges`).

    :ivar settings: what the primary runs with.
    :ivar wanted: how many slots there will be when the changes under way are done; 0
        before any.
    :ivar steps: how far the change under way is.
    :ivar withdrawal: why clients should go to other servers, though this one serves whoever
        comes: an operator has said so; empty if none has.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        fleet: Fleet,
        changes: SlotChanges,
        secrets: SecretRotation,
        spawner: Spawner,
        trials: Trials,
        apply: Callable[[Settings], object],
    ) -> None:
        """
        :param apply: has what the primary's parts share follow the settings of a reload.
        """
        self.settings = settings
        self.wanted = 0
        self._follow: Callable[[Deferred[list[str]]], Deferred[list[str]]] = lambda done: done
        self._reactor = reactor
        self._fleet = fleet
        self._changes = changes
        self.steps = changes.steps
        self.withdrawal = ""
        self.steps.watch(self._log_step)
        self._departures = DepartureNotice(reactor, fleet.table)
        self._secrets = secrets
        self._spawner = spawner
        self._trials = trials
        self._apply = apply
        self._followers: list[Callable[[Settings], object]] = []
        self._canary: Canary | None = None
        self._reloads: NewestWaits[Settings, list[str]] = NewestWaits(self._reload_followed)

    def settle(self) -> Deferred[None]:
        """
        See :meth:`stickyd.fleet.slot_changes.SlotChanges.settle`.
        """
        return self._changes.settle()

    def reload(self, settings: Settings | None = None) -> Deferred[list[str]]:
        """
        Replace the workers one by one by fresh ones, which import the application anew.

        The application is tried in a child first; if it does not import, nothing changes.

        :param settings: what to run with from now on; those in
            :data:`stickyd.settings.FIXED` stay as they are, which the log says.
        :return: fires with a line for each thing that was not done.
        """
        if self._reloads.is_busy:
            self._log.info(
                "A reload is under way; the newest of those that wait follows it",
                event="reload.waits",
            )
        return self._reloads.ask(settings)

    @property
    def canary(self) -> Canary | None:
        """
        The canary that is out, if one is.
        """
        return self._canary

    def reload_some(self, settings: Settings, count: int) -> Deferred[list[str]]:
        """
        Send a *canary* out: replace only some workers, so that only newcomers of their slots get
        the new code.  Then :meth:`go_on` or :meth:`go_back`.

        :param settings: as for :meth:`reload`.
        :param count: how many slots, at least 1 and fewer than there are.
        :return: as of :meth:`reload`.
        :raises OperatorError: if there cannot be one now.
        """
        placed = self._fleet.table.placed
        if settings.reload_mode != "client":
            raise OperatorError(
                "only with --reload-mode client do old and new workers serve side by side"
            )
        if self._canary is not None:
            raise OperatorError(
                f"a canary is out already, in {self._canary.shown}; go on or go back first"
            )
        if not 1 <= count < placed:
            raise OperatorError(
                f"{count} of {placed} slots: a canary takes fewer than there are, and at least 1"
            )
        return self._follow(self._reload(settings, count))

    def go_on(self) -> Deferred[list[str]]:
        """
        Have the rest of the workers replaced too, as the canary's are.

        :return: as of :meth:`reload`.
        :raises OperatorError: if there is none.
        """
        canary = self._require_canary()
        self._canary = None
        if canary.is_inherited:
            # Its workers too run the code that stickyd has replaced.
            return self._changes.reload().addCallback(self._reloaded)
        rest = [slot.index for slot in self._fleet.slots if slot.index not in canary.slots]
        return self._changes.reload(rest, canary.generation).addCallback(self._reloaded)

    def go_back(self) -> Deferred[list[str]]:
        """
        Have the workers that the canary has relieved be the present ones again, with the settings
        that they have; the canary's keep the clients that they know.

        :return: as of :meth:`reload`.
        :raises OperatorError: if there is none.
        """
        canary = self._require_canary()
        self._canary = None
        self._follow_settings(canary.former.settings)
        self._spawner.renew(canary.former)
        return self._changes.go_back(canary.slots).addCallback(self._gone_back)

    def restore_canary(self, plain: dict[str, Any] | None) -> bool:
        """
        Have the canary still be out that a former self of this primary had sent out.

        :param plain: its state, if one was out.
        :return: whether one is: no worker is to be replaced before somebody goes on or back.
        """
        if plain is None:
            return False
        try:
            canary = self._canary = Canary.from_state(plain, self.settings)
        except SettingError as problem:
            self._log.warn(
                "The canary is over, and every worker is replaced: {problem}",
                event="upgrade.canary-over",
                problem=problem,
            )
            return False
        self._log.info(
            "Upgraded, and the canary is still out in {slots}: every worker stays until stickyctl"
            " go-on, which replaces them all, or go-back",
            event="upgrade.canary",
            slots=canary.shown,
        )
        return True

    def _gone_back(self, problems: list[str]) -> list[str]:
        for problem in problems:
            self._log.error("Not back: {problem}", event="reload.not-back", problem=problem)
        if not problems:
            self._log.info("Back: the former workers have their slots", event="reload.back")
        return problems

    def _require_canary(self) -> Canary:
        if self._canary is None:
            raise OperatorError("no canary is out; send one out first: stickyctl reload --slots 1")
        return self._canary

    def call_when_reloading(
        self, call: Callable[[Deferred[list[str]]], Deferred[list[str]]]
    ) -> None:
        """
        Have ``call`` follow each reload: it is given the outcome, and gives it on.
        """
        self._follow = call

    def watch_settings(self, call: Callable[[Settings], object]) -> None:
        """
        Have ``call`` told the settings whenever a reload has changed what is in force.
        """
        self._followers.append(call)

    def _follow_settings(self, settings: Settings) -> None:
        self.settings = settings
        self._apply(settings)
        for call in self._followers:
            call(settings)

    def exclusively(self, act: Callable[[], Deferred[None]]) -> Deferred[None]:
        """
        Act when no change is under way.  None begins until what ``act`` returns has fired.

        :return: fires, or fails, as that does.
        """
        return self._changes.exclusively(act)

    def try_out(self, trial: ITrial) -> Deferred[None]:
        """
        Try something beside the reactor, until the primary stops.

        :return: fires, or fails, as the trial does.
        """
        return self._trials.run(trial)

    def stop(self) -> None:
        """
        End what is being tried: the primary stops.
        """
        self._departures.end()
        self._trials.cancel()

    def _reload_followed(self, settings: Settings | None) -> Deferred[list[str]]:
        if not self._fleet.running:
            return succeed([STOPS])
        return self._follow(self._reload(settings or self.settings))

    def _reload(self, wanted: Settings, count: int | None = None) -> Deferred[list[str]]:
        begun = self.steps.begin("reload")
        return (
            maybeDeferred(self._keep_fixed, wanted)
            .addCallback(self._try)
            .addCallback(self._announced)
            .addCallbacks(partial(self._reload_checked, count), self._not_reloaded)
            .addCallback(self._reloaded)
            .addCallback(self._ended, begun)
        )

    def _ended(self, problems: list[str], begun: Change) -> list[str]:
        self.steps.end(begun, *problems)
        return problems

    def _keep_fixed(self, wanted: Settings) -> Settings:
        """
        Name what a reload cannot change, and leave it as it is.

        :raises SettingError: if the rest means nothing then.
        """
        stays = fixed(self.settings, wanted)
        for name in sorted(changed(self.settings, wanted) & stays.keys()):
            self._log.warn(
                "{name} cannot change at a reload; {remedy} to change it",
                event="reload.setting-stays",
                name=name,
                remedy=stays[name],
            )
        return wanted.keeping(self.settings, stays)

    def _try(self, wanted: Settings) -> Deferred[WorkerSpec]:
        self._log.info("Reloading", event="reload.begun")
        self.steps.tell(Step("reload", "the application is tried"))
        tried = self._trials.run(Trial(wanted, self._say))
        return tried.addCallback(
            lambda _: spec_of(wanted, self._secrets.secrets_of(wanted), self._secrets.run)
        )

    def _announced(self, spec: WorkerSpec) -> Deferred[WorkerSpec]:
        return self._secrets.announce(spec.secrets).addCallback(lambda _: spec)

    def _say(self, line: str) -> None:
        """
        Called, in the thread of the trial, with what the application writes there.
        """
        self._reactor.callFromThread(
            self._log.info, "[trial] {line}", event="trial.output", line=line
        )

    def _reload_checked(
        self, count: int | None, spec: WorkerSpec
    ) -> Deferred[list[str]] | list[str]:
        if not self._fleet.running:
            return [STOPS]
        if name := spec.settings.generation_name:
            self._log.info(
                "The workers that are started from now on are of {name}",
                event="reload.generation",
                name=name,
            )
        former = self._spawner.spec
        self._follow_settings(spec.settings)
        self._spawner.renew(spec)
        if count is not None:
            slots = range(count)
            generation = self._fleet.table.next_generation()
            self._canary = Canary(former, slots, generation)
            return self._changes.reload(slots, generation)
        self._canary = None
        return self._changes.reload().addCallback(self._drop_former, spec.secrets)

    def _drop_former(self, problems: list[str], secrets: tuple[bytes, ...]) -> list[str]:
        """
        Take no token for good any more whose secret is gone, unless a worker still signs with it.
        """
        if not (problems or self._fleet.table.keepers.homes):
            self._secrets.complete(secrets)
        return problems

    def _not_reloaded(self, failure: Failure) -> list[str]:
        failure.trap(OperatorError)
        trace = getattr(failure.value, "trace", "")
        if trace:
            self._log.error(
                "The application cannot be imported:\n{trace}",
                event="application.not-imported",
                trace=trace,
            )
        return [failure.getErrorMessage()]

    def _reloaded(self, problems: list[str]) -> list[str]:
        if not self._fleet.running:
            return problems
        for problem in problems:
            self._log.error("Not reloaded: {problem}", event="reload.refused", problem=problem)
        if not problems and self._canary is not None:
            self._log.info(
                "Reloaded: the workers of {slots} are fresh; the others wait for stickyctl go-on"
                " or go-back",
                event="reload.canary",
                slots=self._canary.shown,
            )
        elif not problems:
            self._log.info("Reloaded: every worker is fresh", event="reload.done")
        self._departures.begin()
        return problems

    def _log_step(self, step: Step) -> None:
        """
        Log how far a change is that goes on.
        """
        if step.done and step.total and step.done < step.total:
            self._log.info(
                "{done} of {total}: {text}",
                event="change.step",
                done=step.done,
                total=step.total,
                text=step.text,
                change=step.change,
            )

    def resize(self, count: int) -> Deferred[str]:
        """
        Change the number of slots, at the tail.

        :param count: 1 to 256.
        :return: fires with an empty text, or with the reason why it was not done.
        """
        bounded = min(max(count, 1), MOST_WORKERS)
        self.wanted = bounded
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
        self.wanted = (self.wanted or self._fleet.table.placed) + difference
        return self.resize(self.wanted)

    def resize_as_before(self, wanted: int, workers: int) -> None:
        """
        Have as many slots as a former self of this process: what the operator has done by
        signals stays, unless the setting has changed.

        :param wanted: its own :attr:`wanted`.
        :param workers: its setting.
        """
        wanted = self.wanted or wanted
        if self.settings.workers != workers:
            wanted = self.settings.workers
        if wanted and wanted != self._fleet.table.placed:
            self.resize(wanted)

    def _resized(self, reason: str) -> str:
        if reason:
            self.wanted = self._fleet.table.placed
        return self._say_why_not(reason, "resized")

    def drain(self, slot: int) -> Deferred[str]:
        """
        Keep clients away from a slot, and have the others take its sessions over.

        :return: fires with an empty text, or with the reason why it was not done.
        """
        drained = self._changes.drain(slot).addCallback(self._say_why_not, "drained")
        return drained.addCallback(self._say_drained, slot)

    def _say_drained(self, reason: str, slot: int) -> str:
        if not reason:
            self._log.info(
                "Slot {slot} is drained: its clients go to the others, until it is undrained",
                event="drain.slot",
                slot=slot,
            )
        return reason

    def drain_all(self) -> None:
        """
        Have load balancers send clients to other servers, until :meth:`undrain_all`; whoever
        comes is served.
        """
        self.withdrawal = "it is drained by an operator"
        self._log.info("Drained: not ready any more, until it is undrained", event="drain.all")

    def undrain_all(self) -> None:
        """
        Have load balancers send clients again.
        """
        if self.withdrawal:
            self.withdrawal = ""
            self._log.info("Undrained: ready again", event="undrain.all")

    def undrain(self, slot: int) -> Deferred[str]:
        """
        Let clients come back to a drained slot.

        :return: fires with an empty text, or with the reason why it was not done.
        """
        undrained = self._changes.undrain(slot).addCallback(self._say_why_not, "undrained")
        return undrained.addCallback(self._say_undrained, slot)

    def _say_undrained(self, reason: str, slot: int) -> str:
        if not reason:
            self._log.info("Slot {slot} gets clients again", event="undrain.slot", slot=slot)
        return reason

    def _say_why_not(self, reason: str, done: str) -> str:
        if reason:
            self._log.error(
                "Not {done}: {reason}", event="change.refused", done=done, reason=reason
            )
        return reason
