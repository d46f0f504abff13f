"""
Trying the application before anything is bound.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import stickyd
from stickyd.errors import ApplicationError
from stickyd.fleet.preflight import check_application
from stickyd.settings import Settings

ROOT = Path(stickyd.__file__).parents[1]


def check(monkeypatch: pytest.MonkeyPatch, where: Path, source: str, **settings: object) -> None:
    """
    Check an application of that source text, ``root`` in it.
    """
    (where / "tried_application.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{where}")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    check_application(
        Settings.read(
            {"resource": "tried_application:root", "worker_reactor": "asyncio", **settings}
        )
    )


def test_sound_application_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """
    It is imported, in another process, and nothing is said; its own output is no verdict.
    """
    check(
        monkeypatch,
        tmp_path,
        "import os, pathlib\n"
        "from twisted.web.resource import Resource\n"
        "print('noise')\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "root = Resource\n",
    )
    assert (tmp_path / "pid").read_text().isdigit()
    assert "tried_application" not in sys.modules
    assert capfd.readouterr().out == ""


def test_no_application_needs_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The demonstration is ours: nothing is started to try it.
    """
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    check_application(Settings())


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_this_name", r"importing 'tried_application' failed: ModuleNotFound"),
        ("print('noise')\nroot = 5", r"^--resource tried_application:root: int is no twisted.web"),
        ("other = 5", r"has no attribute 'root'"),
        ("raise SystemExit('no')", r"failed: SystemExit: no \(.*tried_application.py, line 1\)"),
        ("def root(): raise ValueError('bad')", r"calling it failed: ValueError: bad"),
    ],
)
def test_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, reason: str
) -> None:
    """
    What is wrong with an application is the text of the error, in one line.
    """
    with pytest.raises(ApplicationError, match=reason) as raised:
        check(monkeypatch, tmp_path, source)
    assert "\n" not in str(raised.value)


def test_missing_module_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    A module that is not there is told from one that does not import.
    """
    with pytest.raises(ApplicationError, match="there is no module 'absent' on the path"):
        check(monkeypatch, tmp_path, "", resource="absent:root")


@pytest.mark.parametrize(
    ("death", "status"), [("os._exit(7)", "7"), ("os.kill(os.getpid(), 9)", "-9")]
)
def test_application_that_ends_its_process_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, death: str, status: str
) -> None:
    """
    An import that takes the interpreter down is told as what it is, though the
    application had printed something.
    """
    with pytest.raises(ApplicationError) as raised:
        check(monkeypatch, tmp_path, f"import os\nprint('fine', flush=True)\n{death}\n")
    assert str(raised.value) == f"the application ended its process ({status})"


def test_application_that_takes_too_long_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    A hanging import is ended, and the setting that bounds it is named.
    """
    with pytest.raises(ApplicationError, match=r"longer than 1 s to import; raise --start-timeout"):
        check(monkeypatch, tmp_path, "import signal\nsignal.pause()", start_timeout=1.0)
