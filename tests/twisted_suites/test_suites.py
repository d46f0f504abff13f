"""
Runs Twisted's suites against our classes, with Twisted's own test runner: some of their
tests run the reactor, which under pytest may be running already.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("suite", "fewest"),
    [("http", 165), ("web", 76), ("wsgi", 100), ("websocket", 14), ("xmlrpc", 50)],
)
def test_suite(suite: str, fewest: int, tmp_path: Path) -> None:
    """
    Every test of the suite passes, but for those whose difference is listed.
    """
    run = subprocess.run(
        [
            sys.executable,
            *("-m", "twisted.trial", "--temp-directory", str(tmp_path / "trial")),
            f"tests.twisted_suites.suite_{suite}",
        ],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"^PASSED .*successes=([0-9]+)", run.stdout, re.MULTILINE)
    assert passed is not None, run.stdout
    # A table that leaves out too much, or a suite that did not load, must not pass.
    assert int(passed.group(1)) >= fewest
