"""
Django's session, with our engine: in a process of its own, as its settings are the process's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_engine_and_middleware() -> None:
    """
    What ``django_program.py`` beside this file tries goes as it says there.
    """
    run = subprocess.run(
        [sys.executable, "-m", "tests.sessions.apps.django_program"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Ran 12 tests" in run.stderr
