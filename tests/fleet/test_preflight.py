"""
Trying the application before anything is bound.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stickyd
from stickyd.errors import ApplicationError, SettingError
from stickyd.fleet import preflight
from stickyd.fleet.preflight import Trial, check_application, write_line
from stickyd.settings import Settings
from tests.system.processes import eventually, state_of

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(stickyd.__file__).parents[1]


SOUND = "from twisted.web.resource import Resource\nroot = Resource()\n"


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nothing is said of an import that takes long on a busy machine.
    """
    monkeypatch.setattr(preflight, "QUIET_SECONDS", 60.0)


def check(
    monkeypatch: pytest.MonkeyPatch,
    where: Path,
    source: str,
    say: Callable[[str], None] = write_line,
    **settings: object,
) -> None:
    """
    Check an application of that source text, ``root`` in it.
    """
    (where / "tried_application.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{where}")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    check_application(
        Settings.read(
            {"resource": "tried_application:root", "worker_reactor": "asyncio", **settings}
        ),
        say,
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
    with pytest.raises(
        ApplicationError,
        match=r"longer than 3 s to import; raise --start-timeout.*tried_application.py, line 2$",
    ):
        check(monkeypatch, tmp_path, "import signal\nsignal.pause()", start_timeout=3.0)


HELPER = """
import os, pathlib, signal, subprocess, sys
from twisted.web.resource import Resource
helper = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
pathlib.Path(os.environ["TRIED_PID"]).write_text(str(helper.pid))
root = Resource()
"""

FORK = """
import os, pathlib, signal
from twisted.web.resource import Resource
child = os.fork()
if not child:
    signal.pause()
pathlib.Path(os.environ["TRIED_PID"]).write_text(str(child))
root = Resource()
"""


@pytest.mark.parametrize("source", [HELPER, FORK])
@pytest.mark.parametrize("end", ["", "raise ValueError('no')\n", "os._exit(3)\n"])
def test_fault_24_helper_of_the_application_ends_with_the_trial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, end: str
) -> None:
    """
    Fault 24: a process that the application starts, and that keeps everything open that it
    has inherited, delays no verdict, and is not left behind.
    """
    pid_file = tmp_path / "pid"
    monkeypatch.setenv("TRIED_PID", str(pid_file))
    began = time.monotonic()
    if end:
        with pytest.raises(ApplicationError, match=r"ValueError: no|ended its process \(3\)"):
            check(monkeypatch, tmp_path, source + end)
    else:
        check(monkeypatch, tmp_path, source)
    assert time.monotonic() - began < 50  # Not until --start-timeout.
    pid = int(pid_file.read_text())
    assert eventually(lambda: state_of(pid) in ("", "Z"))


@pytest.mark.parametrize(
    "noise",
    [
        "import sys\nsys.stdout.buffer.write(b'\\xff\\xfe noise\\n')\nsys.stdout.flush()",
        "import os\nos.write(2, b'\\xff\\xfe noise\\n')",
        "import os\nos.write(1, b'\\xff\\xfe noise')",
    ],
)
def test_fault_24_output_need_not_be_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, noise: str
) -> None:
    """
    Fault 24: bytes that are not UTF-8 are shown escaped, and are no reason to refuse.
    """
    said: list[str] = []
    check(monkeypatch, tmp_path, f"{noise}\n{SOUND}", said.append)
    assert said == [r"\xff\xfe noise"]


def test_fault_24_output_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    Fault 24: an application that prints without end does not fill the log.
    """
    said: list[str] = []
    source = "for n in range(100_000):\n    print('noise' * 10)\n" + SOUND
    check(monkeypatch, tmp_path, source, said.append)
    assert sum(map(len, said)) < 70_000
    assert said[-1] == "(it writes more, which is not shown)"


@pytest.mark.parametrize("close", ["", "import sys\nsys.stdout.close()\nsys.stderr.close()\n"])
def test_fault_24_threads_hold_nothing_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, close: str
) -> None:
    """
    Fault 24: a thread that keeps the interpreter alive delays no verdict.
    """
    began = time.monotonic()
    source = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    check(monkeypatch, tmp_path, source + close + SOUND)
    assert time.monotonic() - began < 50


def test_fault_24_what_looks_like_a_verdict_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Fault 24: neither what an application prints nor its exit code is taken for a verdict.
    """
    said: list[str] = []
    source = 'import os\nprint(\'{"verdict": ""}\', flush=True)\nos._exit(0)\n'
    with pytest.raises(ApplicationError, match=r"^the application ended its process \(0\)$"):
        check(monkeypatch, tmp_path, source, said.append)
    assert said == ['{"verdict": ""}']


def test_fault_24_cancelled_trial_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Fault 24: a trial that nobody waits for any more is ended, with its process.
    """
    (tmp_path / "tried_application.py").write_text(
        "import os, signal\nprint(os.getpid(), flush=True)\nsignal.pause()"
    )
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")
    said: list[str] = []

    def cancel(line: str) -> None:
        said.append(line)
        trial.cancel()

    trial = Trial(Settings.read({"resource": "tried_application:root"}), cancel)
    with pytest.raises(ApplicationError, match="the trial was cancelled"):
        trial.run()
    assert eventually(lambda: state_of(int(said[0])) == "")


def test_fault_24_interpreter_that_cannot_start_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Fault 24: a child that never gets to the application is told from one that it ends.
    """
    (tmp_path / "python").write_text("#!/bin/sh\necho nothing here\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ApplicationError, match=r"process does not start \(1\): nothing here$"):
        check(monkeypatch, tmp_path, SOUND)


@pytest.mark.parametrize("reactor", ["uvloop", "asyncio"])
def test_fault_25_import_may_run_a_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reactor: str
) -> None:
    """
    Fault 25: the module is imported outside the loop, the factory is called in it.
    """
    check(
        monkeypatch,
        tmp_path,
        "import asyncio\n"
        "asyncio.run(asyncio.sleep(0))\n"
        "def make():\n"
        "    assert asyncio.get_running_loop() is asyncio.get_event_loop()\n"
        "    async def app(scope, receive, send): pass\n"
        "    return app\n",
        resource="",
        asgi_factory="tried_application:make",
        worker_reactor=reactor,
    )


def test_fault_25_import_that_needs_a_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    Fault 25: what a worker would refuse is refused before.
    """
    with pytest.raises(ApplicationError, match="RuntimeError: no running event loop"):
        check(monkeypatch, tmp_path, f"import asyncio\nasyncio.get_running_loop()\n{SOUND}")


@pytest.mark.parametrize("call", ["os.setsid()", "os.setpgrp()", "os.setpgid(0, 0)"])
def test_fault_25_import_may_leave_its_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str
) -> None:
    """
    Fault 25: a worker leads no process group, so that an application may begin one at import;
    nor does the trial.  What it has started there does not outlive the trial.
    """
    source = (
        f"import os, pathlib, subprocess\n{call}\n"
        "helper = subprocess.Popen(['sleep', '1000'])\n"
        f"pathlib.Path({str(tmp_path / 'helper')!r}).write_text(str(helper.pid))\n{SOUND}"
    )
    check(monkeypatch, tmp_path, source)
    helper = int((tmp_path / "helper").read_text())
    assert eventually(lambda: state_of(helper) in ("", "Z"))


def test_fault_25_trial_in_a_group_of_its_own_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Fault 25: an import without end is ended also in a group that the application has made.
    """
    source = (
        "import os, pathlib, signal\nos.setsid()\n"
        f"pathlib.Path({str(tmp_path / 'itself')!r}).write_text(str(os.getpid()))\n"
        f"signal.pause()\n{SOUND}"
    )
    with pytest.raises(ApplicationError, match="took longer than"):
        check(monkeypatch, tmp_path, source, start_timeout=5.0)
    itself = int((tmp_path / "itself").read_text())
    assert eventually(lambda: state_of(itself) in ("", "Z"))


@pytest.mark.parametrize("reactor", ["asyncio", "epoll"])
def test_fault_29_application_that_serves_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reactor: str
) -> None:
    """
    Fault 29: ``app.run()`` of Klein at import is told as what it is, at once.
    """
    source = "import klein\napp = klein.Klein()\napp.run('127.0.0.1', 0)\n"
    with pytest.raises(
        ApplicationError,
        match=r"it runs the reactor itself.*if __name__ == '__main__'.*klein.*"
        r"from .*tried_application.py, line 3\)$",
    ):
        check(
            monkeypatch,
            tmp_path,
            source,
            resource="tried_application:app.resource",
            worker_reactor=reactor,
        )


def test_fault_47_interpreter_that_the_user_cannot_execute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Fault 47: it is one line, also where there is no application to try.
    """
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "python").write_text("#!/bin/sh\n")
    (private / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(private / "python"))
    with pytest.raises(SettingError) as raised:
        check_application(Settings.read({"uid": "nobody"}))
    if os.geteuid() == 0:
        assert str(raised.value).startswith(
            f"--uid nobody: that user may not execute {private}/python: Permission denied; install"
        )
    else:
        assert "only root can run workers as somebody else" in str(raised.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def broken(:\n", r"SyntaxError: .* \(.*tried_library.py, line 1, from .*application.py"),
        ("raise OSError(2, 'gone', 'a')", r"FileNotFoundError: .*tried_library.py, line 1, from"),
    ],
)
def test_fault_47_error_in_a_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, says: str
) -> None:
    """
    Fault 47: what fails in another module is named with the application's line that led there.
    """
    (tmp_path / "tried_library.py").write_text(source)
    with pytest.raises(ApplicationError, match=says):
        check(monkeypatch, tmp_path, "\nimport tried_library\n")


def test_traceback_begins_with_the_application(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Of what the application raised all is told: each line that led there from its own first one
    on, and the error that it met first.
    """
    (tmp_path / "tried_library.py").write_text(
        "def fails():\n    try:\n        1 / 0\n    except ZeroDivisionError:\n"
        "        raise ValueError('no')\n"
    )
    with pytest.raises(ApplicationError, match="ValueError: no") as raised:
        check(monkeypatch, tmp_path, "import tried_library\n\ntried_library.fails()\n")
    lines = raised.value.trace.split("\n")
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith('tried_library.py", line 3, in fails')
    assert "ZeroDivisionError: division by zero" in lines
    second = len(lines) - lines[::-1].index("Traceback (most recent call last):")
    assert lines[second].endswith('tried_application.py", line 3, in <module>')
    assert lines[-1] == "ValueError: no"


@pytest.mark.parametrize("source", ["a = = 1", "raise RuntimeError('é' * 60_000)"])
def test_traceback_of_what_has_no_frames_or_much_to_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    """
    A syntax error has its own line; what is very long is shortened.
    """
    with pytest.raises(ApplicationError) as raised:
        check(monkeypatch, tmp_path, source)
    assert "tried_application.py" in raised.value.trace
    assert len(raised.value.trace) < 20_000


def test_long_import_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    After a second whoever waits is told for what.
    """
    monkeypatch.setattr(preflight, "QUIET_SECONDS", 0.01)
    said: list[str] = []
    source = "from twisted.web.resource import Resource\nroot = Resource()\n"
    check(monkeypatch, tmp_path, source, say=said.append)
    assert said == ["stickyd: importing tried_application:root …"]
