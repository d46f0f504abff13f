"""
Trying the new code of the primary in a child, up to the point of listening.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from stickyd.errors import OperatorError
from stickyd.upgrade.command_line import LOGFILE, NO_PID_FILE, command_line
from stickyd.upgrade.inheritance import PREFLIGHT, Preflight, accepted_settings
from stickyd.upgrade.memory_file import memory_file

if TYPE_CHECKING:
    from typing import IO

#: Seconds that the new code may take, beside what the application may take to import.
CODE_SECONDS = 60.0

#: Seconds between two looks whether the child has ended, or need not go on.
LOOK_SECONDS = 0.05

#: What is read of the output at most, from its end.
OUTPUT_BYTES = 64 * 1024


class UpgradeTrial:
    """
    One trial.

    :ivar settings: with what the new code can run, as JSON; once :meth:`run` has returned.
    """

    def __init__(self, directory: str, endpoints: list[str], import_seconds: float) -> None:
        """
        :param directory: where the primary was started.
        :param endpoints: what it listens on.
        :param import_seconds: how long the application may take to import.
        """
        self._directory = directory
        self._endpoints = endpoints
        self._seconds = CODE_SECONDS + import_seconds
        self._cancelled = threading.Event()
        self.settings = ""

    def cancel(self) -> None:
        """
        Have :meth:`run`, in another thread, end the child and fail within a moment.
        """
        self._cancelled.set()

    def run(self) -> None:
        """
        Run the new code.

        :raises OperatorError: says why it cannot go on with what this one does.
        """
        command = command_line(sys.executable, sys.orig_argv[1:], [NO_PID_FILE], os.devnull)
        if f"--logfile={os.devnull}" in command:
            # It would be found out too late, and may have been opened before root was given up.
            self._require_writable(os.path.join(self._directory, LOGFILE))
        reader, writer = os.pipe()
        with memory_file() as output, os.fdopen(reader, "rb") as answer:
            with os.fdopen(writer, "wb"):
                process = self._start(command, writer, output)
            try:
                self._wait_for(process)
            finally:
                _end(process)
            said = _last_line(output)
            os.set_blocking(reader, False)
            if process.returncode != 0:
                raise OperatorError(said or f"exit code {process.returncode}")
            self.settings = accepted_settings(answer.read() or b"")

    def _start(self, command: list[str], writer: int, output: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603 (our own command line)
                command,
                env={**os.environ, PREFLIGHT: Preflight(self._endpoints, writer).text()},
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(writer,),
                start_new_session=True,
            )
        except OSError as problem:
            raise OperatorError(f"the new code cannot be run: {problem}") from None

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._seconds
        while process.poll() is None:
            if self._cancelled.is_set():
                raise OperatorError("the server stops")
            if time.monotonic() > deadline:
                raise OperatorError(
                    f"the new code did not come to an end within {self._seconds:g} s"
                )
            self._cancelled.wait(LOOK_SECONDS)

    def _require_writable(self, path: str) -> None:
        if not os.access(path if os.path.exists(path) else os.path.dirname(path), os.W_OK):
            raise OperatorError(
                f"the new code could not write {path}; let its user do so, or name another"
                " file at the next start (twistd --logfile)"
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        # The child that tries the application, in a session of its own, notices.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - OUTPUT_BYTES))
    lines = output.read().decode("utf-8", "backslashreplace").strip().splitlines()
    return lines[-1].removeprefix("stickyd: ") if lines else ""
