"""
``stickyctl``, as tests run it.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from stickyd.ctl.main import main
from tests.system.server import LONG, ROOT, environment

PROGRAM = str(Path(sys.executable).with_name("stickyctl"))


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
        return subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=ROOT,
            env=environment(**self.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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
