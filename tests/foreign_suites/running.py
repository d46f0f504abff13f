"""
Running the tests of others.
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, directory: Path) -> str:
    """
    Run a suite.

    :return: what it has said.
    """
    outcome = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout + outcome.stderr


def passed_in(told: str) -> int:
    """
    How many tests have passed by what pytest has said: a suite that did not load must not
    pass.
    """
    passed = re.search(r"^(\d+) passed", told, re.MULTILINE)
    assert passed is not None, told
    return int(passed[1])
