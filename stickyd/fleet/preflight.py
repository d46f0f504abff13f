"""
Trying the application in a child before anything is bound or replaced.

Theory of operation.  The child imports the application as a worker would, and answers over a
socket of its own (:mod:`stickyd.worker.trial`): its standard output and its exit are the
application's, which may print anything, and leave threads and processes behind that keep both
open for ever.  The child leads a session of its own, and when it has answered, or its time is
over, whatever is left in its process group is killed.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from stickyd.errors import ApplicationError, SettingError
from stickyd.system.cpus import usable_cpus
from stickyd.system.run_as import groups_of, identity
from stickyd.system.secrets import session_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.settings import Settings


T = TypeVar("T")

#: Seconds that a child gets to exit by itself once it has answered.
EXIT_SECONDS = 1.0

#: Seconds that a child whose time is over gets to say where it is.
WHERE_SECONDS = 0.5

#: Seconds between two looks whether the child is gone or the trial cancelled.
LOOK_SECONDS = 0.05

#: Seconds that an import may take without a word.
QUIET_SECONDS = 1.0

#: What is shown of the output at most, and what is taken for an answer.
OUTPUT_BYTES = 64 * 1024
ANSWER_BYTES = 64 * 1024


def without_signals(call: Callable[..., T], *arguments: Any) -> T:
    """
    Call in a thread of the pool, which will never be one that catches a signal.

    A signal that another thread has caught just before the main thread calls execve(2)
    would be lost: only what is blocked stays pending.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGCHLD})
    return call(*arguments)


def write_line(line: str) -> None:
    """
    Show a line on standard error, if there is one.
    """
    if sys.stderr is not None:
        sys.stderr.write(line + "\n")


def check_application(settings: Settings, say: Callable[[str], None] = write_line) -> None:
    """
    Import the application as a worker would, in a process of its own.

    The primary never imports it: its code, its threads and its reactor are no business
    of the process that must not fail.  The child is of the workers' user: root must not
    run it either, and may read files that they may not.

    :param say: told each line that the application writes meanwhile.
    :raises ApplicationError: if it cannot be imported or is not what its option says.
    :raises SettingError: if there can be no workers of that user.
    """
    Trial(settings, say).run()


class Trial:
    """
    One trial.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        """
        :param say: told each line that the application writes.
        :raises SettingError: if there can be no workers of that user.
        """
        self._settings = settings
        self._uid, self._gid = identity(settings.uid, settings.gid)
        self._session_keys = session_keys(settings)
        self._say = say
        self._output = _Output(say)
        self._answers = _Answers()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """
        Have :meth:`run`, in another thread, end the child and fail within a moment.
        """
        self._cancelled.set()

    def run(self) -> None:
        """
        Try the application; our own user and the demonstration need no process for that.

        :raises ApplicationError: if a worker could not serve it; or after :meth:`cancel`.
        :raises SettingError: if the user cannot run workers.
        """
        settings = self._settings
        nothing = (
            settings.application is None
            and not settings.tls
            and not settings.access_log
            and settings.sessions == "memory"
        )
        if nothing and self._uid is None:
            return
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = self._start(theirs)
            assert process.stdout is not None
            with process.stdout:
                try:
                    refusal = self._watch(process, ours)
                    if refusal is None:
                        self._wait_for(process, ours, EXIT_SECONDS, _has_ended)
                finally:
                    code = _end_group(process)
                    self._output.drain(process.stdout.fileno())
        if refusal is None:
            refusal = self._answers.verdict
        if refusal is None:
            refusal = self._explain_exit(code)
        if refusal:
            raise ApplicationError(refusal, self._answers.trace)
        for warning in self._answers.warnings:
            self._say(f"stickyd: {warning}")

    def _start(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        uid, gid = self._uid, self._gid
        descriptor = theirs.fileno()
        try:
            return subprocess.Popen(  # noqa: S603 (our own command line)
                [sys.executable, "-m", "stickyd.worker", "--check", str(descriptor)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(descriptor,),
                start_new_session=True,
                user=uid,
                group=gid,
                extra_groups=None if uid is None else groups_of(uid, gid),
            )
        except PermissionError as problem:
            if uid is None:
                raise ApplicationError(f"no process can be started: {problem}") from None
            raise SettingError(
                f"--uid {self._settings.uid}: that user may not execute {sys.executable}:"
                f" {problem.strerror}; install Python and stickyd where they may, not in"
                " another user's home directory"
            ) from None
        except OSError as problem:
            raise ApplicationError(f"no process can be started: {problem}") from None

    def _watch(self, process: subprocess.Popen[bytes], ours: socket.socket) -> str | None:
        """
        Ask, and wait for the verdict.

        :return: why there is none, or :obj:`None` if there is one, or the child has ended.
        """
        patience = self._settings.start_timeout
        asked = {
            "settings": self._settings.to_json(),
            "path": [p for p in sys.path if p],
            "session_keys": [key.hex() for key in self._session_keys],
            "workers": self._settings.workers or usable_cpus(),
        }
        ours.settimeout(patience)
        try:
            ours.sendall(json.dumps(asked).encode() + b"\n")
        except OSError:
            pass  # it has ended, or will not be ready in time
        first = min(patience, QUIET_SECONDS)
        is_decided = self._wait_for(process, ours, first, self._is_decided)
        if not is_decided and patience > first:
            if self._settings.application is not None:
                self._say(f"stickyd: importing {self._settings.application_name} …")
            is_decided = self._wait_for(process, ours, patience - first, self._is_decided)
        if is_decided:
            return "the trial was cancelled" if self._cancelled.is_set() else None
        try:
            ours.send(b"?")
        except OSError:
            pass
        self._wait_for(process, ours, WHERE_SECONDS, lambda _: bool(self._answers.where))
        where = f": it is at {self._answers.where}" if self._answers.where else ""
        return (
            f"the application took longer than {patience:g} s to import; raise --start-timeout,"
            f" or if it serves by itself, as app.run() does, put that line below"
            f" if __name__ == '__main__'{where}"
        )

    def _is_decided(self, process: subprocess.Popen[bytes]) -> bool:
        return self._answers.verdict is not None or self._cancelled.is_set() or _has_ended(process)

    def _wait_for(
        self,
        process: subprocess.Popen[bytes],
        ours: socket.socket,
        patience: float,
        done: Callable[[subprocess.Popen[bytes]], bool],
    ) -> bool:
        """
        Read until ``done``.

        :return: whether it was in time.
        """
        assert process.stdout is not None
        deadline = time.monotonic() + patience
        ours.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(ours, selectors.EVENT_READ, self._answers.read)
            selector.register(process.stdout, selectors.EVENT_READ, self._output.read)
            while True:
                # Looked at first: what it said before it ended is still read below.
                ended = done(process)
                wait = 0.0 if ended else min(LOOK_SECONDS, deadline - time.monotonic())
                for key, _ in selector.select(max(wait, 0.0)):
                    if not key.data(key.fd):
                        selector.unregister(key.fileobj)
                if ended:
                    return True
                if time.monotonic() >= deadline:
                    return done(process)
                if len(selector.get_map()) == 0:
                    time.sleep(min(LOOK_SECONDS, max(deadline - time.monotonic(), 0.0)))

    def _explain_exit(self, code: int) -> str:
        if self._answers.began:
            return f"the application ended its process ({code})"
        advice = ""
        if self._uid is not None:
            advice = (
                f"; the user of --uid {self._settings.uid} must be able to read Python and stickyd"
            )
        return f"a worker's process does not start ({code}): {self._output.last}{advice}"


class _Answers:
    """
    What the child answers.

    :ivar began: whether it is ours that runs.
    :ivar verdict: empty, or what is wrong; :obj:`None` before it is known.
    :ivar where: where it is, once it was asked.
    :ivar warnings: what an operator should know.
    :ivar trace: the traceback of what the application raised, or empty.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.trace = ""
        self.began = False
        self.verdict: str | None = None
        self.where = ""
        self._rest = b""

    def read(self, descriptor: int) -> bool:
        """
        :return: whether there may be more.
        """
        try:
            data = os.read(descriptor, 65536)
        except OSError:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        # The application has the descriptor too, and could say anything.
        return bool(data) and len(self._rest) <= ANSWER_BYTES

    def _take(self, line: bytes) -> None:
        try:
            answer = json.loads(line)
        except ValueError:
            return
        if not isinstance(answer, dict):
            return
        self.began = self.began or answer.get("began") is True
        warnings = answer.get("warnings")
        if isinstance(warnings, list):
            self.warnings = [" ".join(line.split()) for line in warnings if isinstance(line, str)]
        trace = answer.get("trace")
        if isinstance(trace, list):
            lines = [line for line in trace if isinstance(line, str)]
            self.trace = "\n".join(lines)[:ANSWER_BYTES]
        for name in ("verdict", "where"):
            if isinstance(answer.get(name), str):
                setattr(self, name, " ".join(answer[name].split()))


class _Output:
    """
    What the application writes meanwhile, line by line.

    :ivar last: the last line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.last = "it says nothing"
        self._say = say
        self._rest = b""
        self._room = OUTPUT_BYTES

    def read(self, descriptor: int) -> bool:
        """
        :return: whether there may be more.
        """
        data = os.read(descriptor, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data or len(self._rest) > OUTPUT_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._tell(line)
        return bool(data)

    def drain(self, descriptor: int) -> None:
        """
        Read what is there, without waiting for more: somebody may have kept the other end.
        """
        os.set_blocking(descriptor, False)
        try:
            while self._room > 0 and self.read(descriptor):
                pass
        except BlockingIOError:
            pass
        self._tell(self._rest)

    def _tell(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip()
        if not text or self._room <= 0:
            return
        self._room -= len(text)
        self.last = text
        self._say(text if self._room > 0 else "(it writes more, which is not shown)")


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """
    Whether it has exited, without reaping it: while it is not reaped, nobody else gets its
    process group's number.
    """
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return ended is not None


def _end_group(process: subprocess.Popen[bytes]) -> int:
    """
    Kill what is left of the child and of what the application has started, and reap it.

    :return: the child's exit code, negative for a signal.
    """
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # Nobody is left but the child, which may be of another user by now.
    process.kill()
    return process.wait()
