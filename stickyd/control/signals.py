"""
What an operator may ask of a running primary by a signal.

==========  ===============================================================
signal      meaning
==========  ===============================================================
SIGHUP      reload: read the configuration again, replace worker by worker
SIGTTIN     one slot more
SIGTTOU     one slot less
SIGUSR1     open the file of the log again
SIGUSR2     upgrade: replace the primary's own code in place
SIGTERM     stop, letting requests under way finish
SIGINT      the same
==========  ===============================================================

The handlers only note the signal; the reactor acts on it.
"""

from __future__ import annotations

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


#: The signals of the table above.
COMMANDS = frozenset(
    {
        signal.SIGHUP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTERM,
        signal.SIGINT,
    }
)


class Signals(Service):
    """
    Listens to signals for a :class:`StickyService`, as long as both run.
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
        actions: dict[signal.Signals, Callable[[], object]] = {
            signal.SIGHUP: self._reload,
            signal.SIGTTIN: lambda: self._resize(1),
            signal.SIGTTOU: lambda: self._resize(-1),
            signal.SIGUSR1: self._reopen,
            signal.SIGUSR2: self._upgrade,
            # Not the reactor's own: twistd, when all is done, would send itself the signal
            # that the reactor remembers, and an orderly stop would look like a death.
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
        }

        def note(signum: int, frame: object) -> None:
            self._reactor.callFromThread(self._act, actions[signal.Signals(signum)], signum)

        for signum in actions:
            signal.signal(signum, note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, actions)

    def _act(self, action: Callable[[], object], signum: int) -> None:
        if self.running:
            self._log.info(
                "Received {name}", event="signal.received", name=signal.Signals(signum).name
            )
            action()

    def stop(self) -> None:
        """
        Stop the server, as SIGTERM does.
        """
        # The second of two signals finds the reactor stopping.
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _reload(self) -> None:
        try:
            settings = self._reread()
        except OperatorError as problem:
            self._log.error("Not reloaded: {problem}", event="reload.refused", problem=problem)
        else:
            self._sticky.operations.reload(settings)

    def _reopen(self) -> None:
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
