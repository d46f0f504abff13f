"""
``stickyctl``, as tests run it.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from stickyd.ctl.main import main
from tests.system.server import LONG, ROOT, environment

if TYPE_CHECKING:
    from types import TracebackType

PROGRAM = str(Path(sys.executable).with_name("stickyctl"))


class Running(subprocess.Popen[str]):
    """
    A program that runs until the end of the ``with`` block at most, if that fails: the test would
    wait for it for ever.
    """

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, traceback)


class Ctl:
    """
    Runs the program where it finds only the servers of one directory.
    """

    def __init__(self, directory: Path) -> None:
        self.variables = {"RUNTIME_DIRECTORY": str(directory), "COLUMNS": "160"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """
        Start it, with its output in pipes.
        """
        return Running(
            [PROGRAM, *arguments],
            cwd=ROOT,
            env=environment(**self.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Where the tests run in the background of a shell it is ignored, and stays so.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """
        Run it to its end.

        :return: what it wrote to standard output and error.
        """
        running = self.start(*arguments)
        out, err = running.communicate(timeout=LONG)
        assert running.returncode == code, f"{arguments}: {running.returncode}\n{out}\n{err}"
        return out, err

    def run_here(self, *arguments: str, code: int | None = 0) -> tuple[str, str]:
        """
        The same in this process, which takes no time to start.

        :param code: what it must end with; any, if that is None.
        """
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            for name, value in self.variables.items():
                patch.setenv(name, value)
            try:
                ended: object = main(list(arguments))
            except SystemExit as end:
                ended = end.code
        assert code is None or ended == code, (
            f"{arguments}: {ended}\n{out.getvalue()}\n{err.getvalue()}"
        )
        return out.getvalue(), err.getvalue()

    def json(self, *arguments: str, code: int | None = 0) -> dict[str, Any]:
        """
        Run it in this process with ``--json``.
        """
        told: dict[str, Any] = json.loads(self.run_here(*arguments, "--json", code=code)[0])
        return told
