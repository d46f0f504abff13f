"""
Replacing the primary's own code in place: the same process, another program.

Theory of operation.  ``exec`` keeps the process id, the children, and the descriptors that
are not close-on-exec.  So the primary first has a child try the new code with the same
command line, which answers with the settings that it would run with; then it lets nobody
change the fleet, and waits until every worker has answered what it was asked, while it goes
on accepting.  Then it stops accepting for a moment (newcomers wait in the kernel's queues), in
which no message to or from a worker may be half done.  At that moment its whole state is a few
numbers and descriptors: written to a file in memory, left open for the successor, named by an
environment variable.  The successor goes on from there, with the settings that were tried, and
has the workers reloaded one by one.

Workers notice nothing: their channels never close.  Whatever goes wrong before the ``exec``,
everything is as before.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from stickyd.errors import OperatorError
from stickyd.fleet.slot_changes import STOPS
from stickyd.upgrade.command_line import LOGFILE, NO_PID_FILE, command_line, shown
from stickyd.upgrade.inheritance import INHERIT, VERSION
from stickyd.upgrade.memory_file import memory_file
from stickyd.upgrade.trial import UpgradeTrial

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from twisted.python.failure import Failure

    from stickyd.upgrade.state import UpgradeState

#: Seconds between two looks whether the moment has come.
LOOK_SECONDS = 0.005

#: Seconds that newcomers wait for that moment at a time, and are accepted in between.
PAUSE_SECONDS = 0.5

#: Seconds until the moment must have come.
LONGEST_SECONDS = 10.0


def descriptors(state: object) -> list[int]:
    """
    All descriptors that a state names.
    """
    found: list[int] = []
    if isinstance(state, dict):
        for name, value in state.items():
            if name in ("descriptor", "control") and isinstance(value, int):
                found.append(value)
            elif name == "output":
                found.extend(value.values())
            else:
                found.extend(descriptors(value))
    elif isinstance(state, list):
        for value in state:
            found.extend(descriptors(value))
    return found


class Upgrade:
    """
    Replaces the code of a primary.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        primary: UpgradeState,
        directory: str,
        forget_pid: Callable[[], Callable[[], None] | None],
        signals: Collection[signal.Signals],
        execute: Callable[[str, list[str], Mapping[str, str]], object] = os.execve,
        also: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """
        :param directory: where the process was started, to which relative paths in its
            command line refer.
        :param forget_pid: removes the pid file, as twistd refuses to start where it finds
            one with the id of a living process, its own included; returns what writes it
            again, or nothing if it has removed none: then twistd must do without.
        :param signals: those that must wait while the process is neither the old program
            nor the new one.
        :param also: gives more of the state, which is not the service's.
        """
        self._reactor = reactor
        self._primary = primary
        self._directory = directory
        self._forget_pid = forget_pid
        self._signals = signals
        self._execute = execute
        self._also = also
        self._under_way = False

    def begin(self) -> Deferred[str]:
        """
        Try the new code; if it is sound, go over to it.

        :return: fires with the reason why it was not done.  If it is done, there is nobody
            any more to hear of it.
        """
        if self._under_way:
            self._log.warn("An upgrade is under way already", event="upgrade.busy")
            return succeed("an upgrade is under way already")
        self._under_way = True
        self._log.info("Upgrading: a child tries the new code first", event="upgrade.begun")
        upgraded = Deferred.fromCoroutine(self._upgrade())
        return upgraded.addErrback(self._failed).addCallback(self._over)

    def _over(self, reason: str | None) -> str:
        self._under_way = False
        return reason or ""

    def _failed(self, failure: Failure) -> str:
        says = "Not upgraded, nothing has changed"
        if failure.check(OperatorError, OSError) is None:
            self._log.failure(says, failure, event="upgrade.failed")
        elif self._primary.running:
            self._log.error(
                "{says}: {reason}",
                event="upgrade.refused",
                says=says,
                reason=failure.getErrorMessage(),
            )
        else:
            self._log.info("Not upgraded: {reason}", event="upgrade.refused", reason=STOPS)
        return failure.getErrorMessage()

    async def _upgrade(self) -> None:
        primary = self._primary
        trial = UpgradeTrial(self._directory, primary.descriptions, primary.import_seconds)
        await primary.try_out(trial)
        self._log.info(
            "Upgrading: the new code is sound; now every worker must answer", event="upgrade.tried"
        )

        def replace() -> Deferred[None]:
            return Deferred.fromCoroutine(self._replace(trial.settings))

        await primary.exclusively(replace)

    async def _replace(self, settings: str) -> None:
        """
        Wait for the moment, and become the new code.

        :param settings: those that were tried.
        :raises OperatorError: if there is no such moment.
        :raises OSError: if the new code cannot be executed.
        """
        deadline = self._reactor.seconds() + LONGEST_SECONDS
        while True:
            await self._wait_for_answers(deadline)
            if await self._pause_and_go(settings):
                return
            await self._wait(PAUSE_SECONDS)

    def _wait(self, seconds: float) -> Deferred[None]:
        waited: Deferred[None] = deferLater(self._reactor, seconds)
        return waited

    def _require_running(self) -> None:
        if not self._primary.running:
            raise OperatorError(STOPS)

    async def _wait_for_answers(self, deadline: float) -> None:
        """
        Wait until each worker has had a moment in which nothing is half done, though not all
        of them the same one: a worker that is stuck comes to light while all are served.
        """
        silent = set(self._primary.unsettled)
        while silent:
            if self._reactor.seconds() >= deadline:
                raise OperatorError(f"no answer from {', '.join(sorted(silent))}")
            await self._wait(LOOK_SECONDS)
            self._require_running()
            silent &= set(self._primary.unsettled)
        if self._reactor.seconds() >= deadline:
            raise OperatorError("the workers are never all idle at once; try again later")

    async def _pause_and_go(self, settings: str) -> bool:
        """
        Become the new code if the moment comes soon; nobody is accepted meanwhile.

        :return: whether it came.
        """
        self._primary.pause()
        try:
            until = self._reactor.seconds() + PAUSE_SECONDS
            while self._reactor.seconds() < until:
                if not self._primary.unsettled and await self._go_if_still(settings):
                    return True
                await self._wait(LOOK_SECONDS)
                self._require_running()
            return False
        finally:
            if self._primary.running:
                self._primary.proceed()

    async def _go_if_still(self, settings: str) -> bool:
        put_back = self._put_off()
        try:
            # From here on signals wait for the new code; those that have come already are
            # acted on in this turn.
            await self._wait(0)
            self._require_running()
            if self._primary.unsettled:
                return False
            self._go(settings)
        finally:
            # There is no way back from a successful exec, so this is for all the others.
            put_back()
        return True

    def _put_off(self) -> Callable[[], None]:
        """
        Have signals stay pending in this thread, which execve(2) preserves.

        :return: has them act again, those that came meanwhile too.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        own = threading.get_ident()

        def send_on(signum: int, frame: object) -> None:
            # Another thread, which an exec ends, has caught it for the process.
            signal.pthread_kill(own, signum)

        handlers = {signum: signal.signal(signum, send_on) for signum in self._signals}

        def put_back() -> None:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

        return put_back

    def _go(self, settings: str) -> None:
        """
        Become the new code.

        :raises OSError: if that cannot be; nothing has changed then.
        :raises OperatorError: the same.
        """
        state = {
            "version": VERSION,
            "settings": settings,
            **self._primary.dump_state(),
            **self._also(),
        }
        with ExitStack() as undo:
            file = undo.enter_context(memory_file())
            file.write(json.dumps(state).encode())
            file.flush()
            for descriptor in (file.fileno(), *descriptors(state)):
                undo.callback(os.set_inheritable, descriptor, os.get_inheritable(descriptor))
                os.set_inheritable(descriptor, True)
            remember_pid = self._forget_pid()
            if remember_pid is not None:
                undo.callback(remember_pid)
            extra = [] if remember_pid or NO_PID_FILE in sys.orig_argv else [NO_PID_FILE]
            command = command_line(sys.executable, sys.orig_argv[1:], extra, LOGFILE)
            self._log.info(
                "Upgrading: this process becomes {command}",
                event="upgrade.execs",
                command=shown(command),
            )
            undo.callback(os.chdir, os.getcwd())
            os.chdir(self._directory)
            self._execute(command[0], command, {**os.environ, INHERIT: str(file.fileno())})
