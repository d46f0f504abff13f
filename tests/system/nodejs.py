"""
Programs in JavaScript, with their packages from npm.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.system.programs import need_program

#: Where they are.
DIRECTORY = Path(__file__).with_name("node")

#: Seconds that npm may take.
_INSTALLING = 300.0


def install_packages() -> None:
    """
    Install what ``package-lock.json`` names, unless it is there already.

    :raises AssertionError: with what npm says, if it fails.
    """
    npm = need_program("npm")
    lock = DIRECTORY / "package-lock.json"
    installed = DIRECTORY / "node_modules" / ".installed"
    with lock.open() as file:
        # Two runs of the tests at once must not install into each other.
        fcntl.flock(file, fcntl.LOCK_EX)
        wanted = file.read()
        if installed.exists() and installed.read_text() == wanted:
            return
        outcome = subprocess.run(
            [npm, "ci"],
            cwd=DIRECTORY,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALLING,
        )
        assert outcome.returncode == 0, f"npm ci: {outcome.stdout}\n{outcome.stderr}"
        installed.write_text(wanted)


def node_command(program: str, plan: dict[str, Any]) -> list[str]:
    """
    The command line of a program, which has one argument, in JSON.
    """
    return [need_program("node"), str(DIRECTORY / program), json.dumps(plan)]


def run_node(program: str, plan: dict[str, Any], timeout: float) -> Any:
    """
    Run a program to its end.

    :param timeout: seconds after which it is killed, and the test fails.
    :return: what it prints, in JSON.
    """
    outcome = subprocess.run(
        node_command(program, plan),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert outcome.returncode == 0, (outcome.returncode, outcome.stderr)
    return json.loads(outcome.stdout)
