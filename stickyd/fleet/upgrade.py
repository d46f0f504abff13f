"""
Replacing the primary's own code in place: the same process, another program.

Theory of operation.  ``exec`` keeps the process id, the children, and the descriptors that
are not close-on-exec.  So the primary first has a child try the new code with the same
command line; then it lets nobody change the fleet, stops accepting (newcomers wait in the
kernel's queues), and waits for the moment at which no message to or from a worker is half
done.  At that moment its whole state is a few numbers and descriptors: written to a
temporary file, left open for the successor, named by an environment variable.  The
successor goes on from there, and has the workers reloaded one by one.

Workers notice nothing: their channels never close.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from stickyd.errors import OperatorError
from stickyd.fleet.preflight import without_signals
from stickyd.net.descriptors import keep_from_children

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from twisted.python.failure import Failure

    from stickyd.fleet.upgrade_state import UpgradeState

#: Names the descriptor of the state, for the successor.
INHERIT = "STICKYD_INHERIT"

#: Has a process check everything as if it were to start, and exit.  A JSON list of the
#: endpoints that its parent listens on already.
PREFLIGHT = "STICKYD_PREFLIGHT"

#: Of the state; a successor of another version refuses it before it does any harm.
VERSION = 1

#: Where a daemon logs that was not told where, in the directory where it was started.
LOGFILE = "twistd.log"

#: Has twistd look for no pid file and write none.
NO_PID_FILE = "--pidfile="

#: Seconds that the new code may take to be tried.
PREFLIGHT_SECONDS = 60.0

#: Seconds between two looks whether the moment has come, and until it must have.
LOOK = 0.005
LONGEST = 10.0


def take_inherited(environment: dict[str, str]) -> dict[str, Any] | None:
    """
    The state that a former self left, if there is one; it can be taken once.

    :param environment: ``os.environ``; the variable is removed from it.
    """
    number = environment.pop(INHERIT, None)
    if number is None:
        return None
    with os.fdopen(int(number)) as file:
        file.seek(0)
        state: dict[str, Any] = json.load(file)
    # They had to outlive the exec; no child shall have them.
    keep_from_children(descriptors(state))
    return state


def take_preflight(environment: Mapping[str, str]) -> list[str] | None:
    """
    The endpoints that the parent listens on, if this process only tries the code.

    :param environment: ``os.environ``.
    """
    text = environment.get(PREFLIGHT)
    descriptions: list[str] | None = None if text is None else json.loads(text)
    return descriptions


def command_line(
    executable: str, arguments: Sequence[str], extra: Sequence[str], logfile: str = ""
) -> list[str]:
    """
    The command line of this process, with more options for twistd.

    :param arguments: :data:`sys.orig_argv` without its first.
    :param extra: options of twistd.
    :param logfile: where a daemon logs unless its command line says so.  A daemon must
        not become one again: its children would be another process's.
    """
    arguments = list(arguments)
    # Options of twistd stand before its command; a .tac is run without one.
    end = arguments.index("stickyd") if "stickyd" in arguments else len(arguments)
    own = arguments[:end]
    added = list(extra)
    short = [option for option in own if option.startswith("-") and not option.startswith("--")]
    if "--nodaemon" not in own and not any("n" in option for option in short):
        added.append("--nodaemon")
        if not any(option.startswith(("-l", "--log", "--sys")) for option in own):
            added.append(f"--logfile={logfile}")
    return [executable, *own, *added, *arguments[end:]]


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

    def begin(self) -> None:
        """
        Try the new code; if it is sound, go over to it.
        """
        if self._under_way:
            self._log.warn("An upgrade is under way already")
            return
        self._under_way = True
        self._log.info("Upgrading: a child tries the new code first")
        checked = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), without_signals, self._preflight
        )
        checked.addCallback(lambda _: self._primary.exclusively(self._wait_for_the_moment))
        checked.addErrback(self._failed)
        checked.addCallback(self._over)

    def _over(self, _: object) -> None:
        self._under_way = False

    def _preflight(self) -> None:
        command = command_line(sys.executable, sys.orig_argv[1:], [NO_PID_FILE], os.devnull)
        if f"--logfile={os.devnull}" in command:
            # It would be found out too late, and may have been opened before root was given up.
            self._require_writable(os.path.join(self._directory, LOGFILE))
        try:
            outcome = subprocess.run(  # noqa: S603 (our own command line)
                command,
                env={**os.environ, PREFLIGHT: json.dumps(self._primary.descriptions)},
                cwd=self._directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=PREFLIGHT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise OperatorError(
                f"the new code did not come to an end within {PREFLIGHT_SECONDS:g} s"
            ) from None
        if outcome.returncode != 0:
            lines = outcome.stdout.strip().splitlines()
            raise OperatorError(lines[-1] if lines else f"exit code {outcome.returncode}")

    def _require_writable(self, path: str) -> None:
        if not os.access(path if os.path.exists(path) else os.path.dirname(path), os.W_OK):
            raise OperatorError(
                f"the new code could not write {path}; let its user do so, or name another"
                " file at the next start (twistd --logfile)"
            )

    def _failed(self, failure: Failure) -> None:
        if failure.check(OperatorError) is None:
            self._log.failure("Not upgraded", failure)
        else:
            self._log.error(
                "Not upgraded, nothing has changed: {reason}", reason=failure.getErrorMessage()
            )

    def _wait_for_the_moment(self) -> Deferred[None]:
        """
        :return: fires, with the reason as its failure, when there is no upgrade: until
            then nobody else may change the fleet.
        """
        self._primary.pause()
        stays: Deferred[None] = Deferred()
        self._look(stays, self._reactor.seconds() + LONGEST)
        return stays

    def _look(self, stays: Deferred[None], deadline: float) -> None:
        if self._primary.quiet:
            # From here on signals wait for the new code; those that have come already are
            # acted on in this turn.
            self._reactor.callLater(0, self._look_again, stays, deadline, self._put_off())
        elif self._reactor.seconds() < deadline:
            self._reactor.callLater(LOOK, self._look, stays, deadline)
        else:
            self._stay(stays, OperatorError("a worker does not answer"))

    def _look_again(
        self, stays: Deferred[None], deadline: float, put_back: Callable[[], None]
    ) -> None:
        if not self._primary.running:
            self._stay(stays, OperatorError("the server stops"))
        elif not self._primary.quiet:
            self._reactor.callLater(LOOK, self._look, stays, deadline)
        else:
            try:
                self._go()
            except (OSError, OperatorError) as problem:
                self._stay(stays, problem)
        # There is no way back from a successful exec, so this is for all the others.
        put_back()

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

    def _stay(self, stays: Deferred[None], problem: Exception) -> None:
        if self._primary.running:
            self._primary.proceed()
        stays.errback(problem)

    def _go(self) -> None:
        """
        Become the new code.

        :raises OSError: if that cannot be; nothing has changed then.
        :raises OperatorError: the same.
        """
        state = {"version": VERSION, **self._primary.dump_state(), **self._also()}
        with tempfile.TemporaryFile("w+") as file:
            json.dump(state, file)
            file.flush()
            inherited = [file.fileno(), *descriptors(state)]
            for descriptor in inherited:
                os.set_inheritable(descriptor, True)
            here = os.getcwd()
            remember_pid = self._forget_pid()
            extra = [] if remember_pid or NO_PID_FILE in sys.orig_argv else [NO_PID_FILE]
            command = command_line(sys.executable, sys.orig_argv[1:], extra, LOGFILE)
            self._log.info("Upgrading: this process becomes {command}", command=" ".join(command))
            try:
                os.chdir(self._directory)
                self._execute(command[0], command, {**os.environ, INHERIT: str(file.fileno())})
            except OSError:
                os.chdir(here)
                if remember_pid is not None:
                    remember_pid()
                for descriptor in inherited:
                    os.set_inheritable(descriptor, False)
                raise
