"""
What an operator may ask of a running primary by a signal.

==========  ===============================================================
signal      meaning
==========  ===============================================================
SIGHUP      reload: read the configuration again, replace worker by worker
SIGTTIN     one slot more
SIGTTOU     one slot less
SIGUSR1     open the files of the log and the access log again
SIGUSR2     upgrade: replace the primary's own code in place
SIGTERM     stop, letting requests under way finish
SIGINT      the same; the second one stops at once, the third one kills
SIGQUIT     the same as SIGTERM
==========  ===============================================================

The others that would end a process mean nothing here, and the log says that they came.

The handlers only note the signal; the reactor acts on it.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from typing_extensions import override

from stickyd.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.service import StickyService
    from stickyd.settings import Settings

#: Those that end a process that does not know them, and of which nobody means that when they
#: are sent: timers, input, power, and the real-time ones.
MEANINGLESS = frozenset(
    signum
    for signum in (
        *(
            getattr(signal, name, None)
            for name in ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT")
        ),
        *range(getattr(signal, "SIGRTMIN", 1), getattr(signal, "SIGRTMAX", 0) + 1),
    )
    if signum is not None
)

#: All that are heeded.
COMMANDS = frozenset(
    {
        signal.SIGHUP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGQUIT,
        *MEANINGLESS,
    }
)

#: Seconds that a killed worker's end may take until the primary ends without waiting for it.
KILL_SECONDS = 2.0


class Signals(Service):
    """
    Listens to signals for a :class:`StickyService`, until the process ends.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        sticky: StickyService,
        reread: Callable[[], Settings],
        upgrade: Callable[[], object],
        reopen_log: Callable[[], object],
    ) -> None:
        """
        :param reread: reads options and configuration file again; raises
            :exc:`OperatorError` if something is wrong with them.
        :param upgrade: replaces the primary.
        :param reopen_log: opens the file of the log again; raises :exc:`OSError` if it cannot.
        """
        self._reactor = reactor
        self._sticky = sticky
        self._reread = reread
        self._upgrade = upgrade
        self._reopen_log = reopen_log
        self._interrupts = 0
        self._actions: dict[int, Callable[[], object]] = {
            signal.SIGHUP: self._reload,
            signal.SIGTTIN: lambda: self._resize(1),
            signal.SIGTTOU: lambda: self._resize(-1),
            signal.SIGUSR1: self._reopen,
            signal.SIGUSR2: self._upgrade,
            # Not the reactor's own: twistd, when all is done, would send itself the signal
            # that the reactor remembers, and an orderly stop would look like a death.
            signal.SIGTERM: self.stop,
            signal.SIGQUIT: self.stop,
            signal.SIGINT: self._interrupt,
        }

    @override
    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        # The first workers are about to start: a signal meanwhile waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, COMMANDS)

    @override
    def startService(self) -> None:
        super().startService()
        # The reactor installs its own handlers when it begins to run, over any others.
        self._reactor.callWhenRunning(self._listen)

    def _listen(self) -> None:
        def note(signum: int, frame: object) -> None:
            self._reactor.callFromThread(self._act, signum)

        for signum in COMMANDS:
            # One that the system, or a debugger, keeps for itself, never comes.
            with suppress(OSError):
                signal.signal(signum, note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, COMMANDS)

    def _act(self, signum: int) -> None:
        is_end = signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)
        if not (self.running or is_end):
            return
        name = _name(signum)
        action = self._actions.get(signum)
        if action is None:
            self._log.info("{name} means nothing here", event="signal.meaningless", name=name)
            return
        self._log.info("Received {name}", event="signal.received", name=name)
        action()

    def stop(self) -> None:
        """
        Stop the server, as SIGTERM does.
        """
        # The second of two signals finds the reactor stopping.
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self._log.info(
                "Ctrl-C (SIGINT) once more stops at once, and a third time kills",
                event="stop.hint",
            )
            self.stop()
        elif self._interrupts == 2:
            self._log.warn("Stopping at once: what is under way is cut off", event="stop.at-once")
            self._sticky.stop_at_once()
        else:
            self._log.warn("Killing the workers", event="stop.kills")
            self._sticky.kill_workers()
            # Whatever else is waited for.
            self._reactor.callLater(KILL_SECONDS, os._exit, 128 + signal.SIGINT)

    def _reload(self) -> None:
        try:
            settings = self._reread()
        except OperatorError as problem:
            self._log.error("Not reloaded: {problem}", event="reload.refused", problem=problem)
        else:
            self._sticky.operations.reload(settings)

    def _reopen(self) -> None:
        self._sticky.reopen_logs()
        try:
            self._reopen_log()
        except OSError as problem:
            self._log.error(
                "The log cannot be opened again, and goes on in the former file: {problem}",
                event="log.not-reopened",
                problem=problem,
            )
        else:
            self._log.info("The log begins here", event="log.reopened")

    def _resize(self, difference: int) -> None:
        self._sticky.operations.resize_by(difference)


def _name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"SIGRTMIN+{signum - signal.SIGRTMIN}"
