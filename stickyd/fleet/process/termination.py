"""
The end of a worker's process: what it is sent, until when, and why it came.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from twisted.internet.error import ProcessExitedAlready
from twisted.logger import Logger

from stickyd.fleet.process.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorTime
    from twisted.python.failure import Failure

    from stickyd.fleet.process.adopted_process import AdoptedProcess
    from stickyd.fleet.process.label import WorkerLabel

#: Seconds between a worker's deadline and its SIGKILL.  ``--stop-timeout`` is for requests;
#: this is for what comes after the last one: the farewell of what was cut off, the shutdown
#: of the application (ASGI's lifespan, WSGI's threads) and the interpreter's own end, with
#: all workers at it at once.
KILL_AFTER_SECONDS = 6.0

#: Seconds that a worker which has closed its handoff channel may take to exit.
CHANNELLESS_SECONDS = 2.0


class Termination:
    """
    Ends one process, if it does not end by itself in time.

    :ivar process: what signals go to, once there is one.
    :ivar has_ended: whether the process is gone.
    :ivar verdict: why it ends, if that is known before its exit code; for the log.
    :ivar watchdog: ends it when it hangs.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, hang_timeout: float, label: WorkerLabel) -> None:
        """
        :param hang_timeout: seconds without a heartbeat after which the worker hangs.
        """
        self._clock = clock
        self._label = label
        self.has_ended = False
        self.process: IProcessTransport | AdoptedProcess | None = None
        self.verdict = ""
        self.watchdog = Watchdog(clock, hang_timeout, label, self.kill)
        self._deadline: IDelayedCall | None = None
        self._channelless: IDelayedCall | None = None
        self._breached = False

    def attend(self, process: IProcessTransport | AdoptedProcess) -> None:
        """
        Called when there is a process.
        """
        self.process = process

    def blame(self, verdict: str) -> None:
        """
        Say why it ends, before its exit code does; for the log.
        """
        self.verdict = verdict

    def end(self) -> None:
        """
        Called when the process is gone.
        """
        self.has_ended = True

    def kill(self, signum: int) -> None:
        """
        Send a signal, if the process is still there.
        """
        if self.process is not None:
            try:
                self.process.signalProcess(signum)
            except ProcessExitedAlready:
                pass  # its processExited is on the way

    def allow(self, seconds: float) -> None:
        """
        Give it so long to get ready.
        """

        def too_slow() -> None:
            self._deadline = None
            self.verdict = f"was not ready within {seconds:g} s"
            self.kill(signal.SIGKILL)

        self._set_deadline(seconds, too_slow)

    def stop_by(self, patience: float) -> None:
        """
        Give it so long, and a little more, to exit.
        """
        self._set_deadline(patience + KILL_AFTER_SECONDS, self._overdue)

    @property
    def seconds_left(self) -> float | None:
        """
        How long it may still take, if there is a deadline.
        """
        if self._deadline is None:
            return None
        return max(0.0, self._deadline.getTime() - self._clock.seconds())

    def go_on(self, seconds_left: float | None) -> None:
        """
        Give it as long as it had left when the primary replaced itself.
        """
        if seconds_left is not None:
            self._set_deadline(seconds_left, self._overdue)

    def _overdue(self) -> None:
        self._deadline = None
        self._log.warn(
            "Worker {worker} did not stop in time; killing it",
            event="worker.killed",
            worker=self._label,
        )
        self.kill(signal.SIGKILL)

    def _set_deadline(self, seconds: float, call: Callable[[], None]) -> None:
        self.forget_deadline()
        self._deadline = self._clock.callLater(seconds, call)

    def forget_deadline(self) -> None:
        """
        Give it all the time there is.
        """
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def channel_lost(self) -> None:
        """
        Called when its handoff channel has closed.
        """
        # Its process has ended, which processExited tells, or ends; one that has broken
        # the protocol must not go on without a channel.
        self._kill_later(CHANNELLESS_SECONDS, "closed its handoff channel")

    def control_lost(self) -> None:
        """
        Called when its control channel has closed: nobody can ask it for anything more.
        """
        self._kill_later(KILL_AFTER_SECONDS, "closed its control channel")

    def _kill_later(self, seconds: float, verdict: str) -> None:
        def kill() -> None:
            self._channelless = None
            self.verdict = self.verdict or verdict
            self.kill(signal.SIGKILL)

        if self._channelless is None and not self.has_ended:
            self._channelless = self._clock.callLater(seconds, kill)

    def breach(self, channel: str, problem: str) -> None:
        """
        End it at once: it has broken the protocol of one of its channels.

        :param problem: what it said, and the rule, for the log.
        """
        if self._breached:
            return
        self._breached = True
        self._log.error(
            "Worker {worker} broke the protocol of its {channel}: it sent {problem}. It is ended",
            event="worker.broken-protocol",
            worker=self._label,
            channel=channel,
            problem=problem,
        )
        self.verdict = self.verdict or f"broke the protocol of its {channel}"
        self.kill(signal.SIGKILL)

    def relent(self) -> None:
        """
        Do nothing to it any more.
        """
        self.forget_deadline()
        self.watchdog.stop()
        if self._channelless is not None:
            self._channelless.cancel()
            self._channelless = None

    def cause(self, reason: Failure) -> str:
        """
        Say how it has ended, for the log.
        """
        return self.verdict or self.watchdog.verdict or describe_death(reason)


def describe_death(reason: Failure) -> str:
    """
    Say how a process ended: ``died of signal 9 (SIGKILL)``, ``exited with code 1``.
    """
    signum = getattr(reason.value, "signal", None)
    if signum is not None:
        return f"died of signal {signum} ({signal.Signals(signum).name})"
    return f"exited with code {getattr(reason.value, 'exitCode', 0)}"
