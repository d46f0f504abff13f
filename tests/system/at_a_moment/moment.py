"""
An upgrade that is held at one moment: the test's side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.gate import Gate
from tests.system.server import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


class Moment:
    """
    An upgrade that is held at one moment.
    """

    def __init__(self, moment: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = Gate(directory / "moment")
        monkeypatch.setenv("STICKYD_TEST_MOMENT", moment)
        monkeypatch.setenv("STICKYD_TEST_MOMENT_GATE", str(directory / "moment"))
        monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/system/at_a_moment"))

    def close(self) -> None:
        """
        Hold it no more.
        """
        self.gate.close()
