"""
What a worker writes to its standard error.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure

import stickyd
from stickyd.log.lines import LEVELS, read_line
from stickyd.worker.log import marked

ROOT = str(Path(stickyd.__file__).parents[1])


def event(text: str, level: object = LogLevel.info, **more: object) -> LogEvent:
    """
    An event as a Logger makes it.
    """
    return {"log_format": "{text}", "text": text, "log_level": level, **more}


@pytest.mark.parametrize(
    ("level", "mark"),
    [
        (LogLevel.critical, "<2>"),
        (LogLevel.error, "<3>"),
        (LogLevel.warn, "<4>"),
        (LogLevel.info, "<6>"),
        (LogLevel.debug, "<7>"),
    ],
)
def test_line_is_marked_with_its_level(level: object, mark: str) -> None:
    """
    Each level has the number of sd-daemon(3), and ends with a newline.
    """
    assert marked(event("text", level)) == f"{mark}text\n"


def test_primary_reads_the_marks_that_workers_write() -> None:
    """
    Writer and reader agree on every level.
    """
    for level in LEVELS.values():
        assert read_line(marked(event("text", level)).rstrip().encode()).level is level


def test_event_without_a_level_is_information() -> None:
    """
    Events of the old log module carry no level.
    """
    assert marked({"log_format": "text"}) == "<6>text\n"


def test_lines_of_an_event_stay_together() -> None:
    """
    The primary reads line by line, so an event is one line on the way.
    """
    written = marked(event("one\ntwo\r\nthree", LogLevel.warn))
    assert written.count("\n") == 1
    read = read_line(written.encode())
    assert (read.level, read.text, read.trace) == (LogLevel.warn, "one\ntwo\nthree", "")


def test_name_of_an_event_crosses() -> None:
    """
    Our own events keep their names; what others call so is none.
    """
    read = read_line(marked(event("away", LogLevel.warn, event="store.away")).encode())
    assert (read.event, read.text) == ("store.away", "away")
    assert marked(event("text", event="foreign")) == "<6>text\n"
    assert marked(event("text", event=object())) == "<6>text\n"


def test_traceback_follows_its_event() -> None:
    """
    A failure is told with its whole traceback, which stays with it.
    """
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        failure = Failure()
    written = marked(event("It failed", LogLevel.error, log_failure=failure))
    assert written.count("\n") == 1
    read = read_line(written.encode())
    assert (read.level, read.text) == (LogLevel.error, "It failed")
    assert read.trace.startswith("Traceback (most recent call last):\n")
    assert read.trace.endswith("\nbuiltins.ValueError: broken\nin two")


def run(code: str) -> subprocess.CompletedProcess[str]:
    """
    Run some lines in a process of their own, after its log has begun.
    """
    return subprocess.run(
        [sys.executable, "-c", f"from stickyd.worker.log import begin_logging\n{code}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        # Python's own way to write at once would hide ours.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        timeout=60,
        check=True,
    )


def test_twisted_log_goes_to_standard_error() -> None:
    """
    From information upwards; debugging is dropped, standard output stays the application's.
    """
    ran = run(
        "begin_logging()\n"
        "from twisted.logger import Logger\n"
        "log = Logger()\n"
        "log.debug('detail'); log.info('info'); log.warn('warn {n}', n=1); log.critical('end')\n"
        "print('printed')\n"
    )
    assert ran.stderr == "<6>info\n<4>warn 1\n<2>end\n"
    assert ran.stdout == "printed\n"


def test_standard_logging_has_the_same_marks() -> None:
    """
    What asyncio libraries log is told with their name and level.
    """
    ran = run(
        "begin_logging()\n"
        "import logging\n"
        "log = logging.getLogger('lib')\n"
        "log.debug('detail'); log.info('info'); log.warning('warn'); log.error('error')\n"
        "log.log(25, 'notice'); log.critical('end')\n"
        "try: 1/0\n"
        "except ZeroDivisionError: log.exception('failed')\n"
    )
    *lines, failed, _ = ran.stderr.split("\n")
    assert lines == [
        "<6>lib: info",
        "<4>lib: warn",
        "<3>lib: error",
        "<4>lib: notice",
        "<2>lib: end",
    ]
    read = read_line(failed.encode())
    assert (read.level, read.text) == (LogLevel.error, "lib: failed")
    assert read.trace.startswith("Traceback (most recent call last):\n")
    assert read.trace.endswith("\nZeroDivisionError: division by zero")


def test_level_is_that_of_the_setting() -> None:
    """
    ``--log-level`` holds for Twisted's log and for the standard library's, unless the
    application has set a level of its own.
    """
    ran = run(
        "set_level = begin_logging()\n"
        "import logging\n"
        "from twisted.logger import Logger\n"
        "def speak():\n"
        "    Logger().debug('T debug'); Logger().warn('T warn')\n"
        "    logging.getLogger('app').debug('debug'); logging.getLogger('app').warning('warn')\n"
        "set_level('debug'); speak(); set_level('error'); speak()\n"
        "logging.getLogger().setLevel('INFO'); set_level('error'); speak()\n"
    )
    assert ran.stderr.splitlines() == [
        "<7>T debug",
        "<4>T warn",
        "<7>app: debug",
        "<4>app: warn",
        "<4>app: warn",
    ]


def test_print_is_written_when_it_is_made() -> None:
    """
    A line that was printed is not lost with a process that dies the next moment.
    """
    ran = run("begin_logging()\nimport os\nprint('last words')\nos._exit(0)\n")
    assert ran.stdout == "last words\n"


@pytest.mark.parametrize(
    ("configure", "said"),
    [
        ("logging.basicConfig(level=logging.DEBUG, format='%(message)s', stream=sys.stderr)",
         ["detail", "info", "warn"]),
        ("logging.basicConfig(format='%(message)s')", ["warn"]),
        ("logging.basicConfig(level=logging.INFO, format='%(message)s')", ["info", "warn"]),
        ("logging.config.dictConfig({**CONFIG, 'root': {'level': 'INFO', 'handlers': ['h']}})",
         ["info", "warn"]),
        ("logging.config.dictConfig({**CONFIG, 'root': {'handlers': ['h']}})", ["warn"]),
        ("logging.config.dictConfig({**CONFIG, 'loggers': {'app': {'handlers': ['h']}}})",
         ["info", "warn"]),
        ("h = logging.StreamHandler(); log.addHandler(h)", ["info", "warn"]),
        ("logging.getLogger().addHandler(logging.StreamHandler())", ["warn"]),
        ("log.addHandler(logging.NullHandler())", ["<6>app: info", "<4>app: warn"]),
        ("h = logging.StreamHandler(); h.setLevel('ERROR'); log.addHandler(h)",
         ["<6>app: info", "<4>app: warn"]),
        ("from logging import basicConfig; basicConfig(format='%(message)s')", ["warn"]),
        ("logging.getLogger().setLevel('ERROR')", []),
        ("logging.getLogger().setLevel('INFO')", ["<6>app: info", "<4>app: warn"]),
        ("", ["<6>app: info", "<4>app: warn"]),
    ],
)  # fmt: skip
def test_fault_27_application_configures_logging(configure: str, said: list[str]) -> None:
    """
    Fault 27: what an application does to configure logging has the effect that it has in a
    fresh interpreter, and nothing is said twice.
    """
    ran = run(
        "begin_logging()\n"
        "import logging, logging.config, sys\n"
        "CONFIG = {'version': 1, 'disable_existing_loggers': False,\n"
        "          'handlers': {'h': {'class': 'logging.StreamHandler'}}}\n"
        "log = logging.getLogger('app')\n"
        f"{configure}\n"
        "log.debug('detail'); log.info('info'); log.warning('warn')\n"
    )
    assert ran.stderr.splitlines() == said


def test_fault_27_errors_that_would_only_be_mailed() -> None:
    """
    Fault 27: Django's own configuration leaves errors to mail alone; the log has them.
    """
    ran = run(
        "begin_logging()\n"
        "import logging\n"
        "from django.conf import settings\n"
        "settings.configure()\n"
        "import django; django.setup()\n"
        "logging.getLogger('django.request').error('boom')\n"
    )
    assert ran.stderr == "<3>django.request: boom\n"


def test_fault_27_configuring_again() -> None:
    """
    Fault 27: ``basicConfig`` is heeded after the first lines too, and ``force`` as well.
    """
    ran = run(
        "begin_logging()\n"
        "import logging\n"
        "logging.getLogger('app').error('first')\n"
        "logging.basicConfig(format='A %(message)s'); logging.error('second')\n"
        "logging.basicConfig(format='B %(message)s', force=True); logging.error('third')\n"
    )
    assert ran.stderr.splitlines() == ["<3>app: first", "A second", "B third"]


@pytest.mark.parametrize(
    "redirect",
    [
        "from twisted.python import log; log.startLogging(sys.stdout)",
        "import io; sys.stderr = io.StringIO()",
        "sys.stderr.close()\nsys.stderr = None",
    ],
)
def test_fault_27_standard_error_of_the_application(redirect: str) -> None:
    """
    Fault 27: an application may put something else in the place of ``sys.stderr``, even our
    own log.
    """
    ran = run(
        "begin_logging()\n"
        "import sys\n"
        "from twisted.logger import Logger\n"
        f"{redirect}\n"
        "Logger().warn('warned')\n"
        "import logging; logging.warning('too')\n"
    )
    if "close" not in redirect:
        assert ran.stderr.count("<4>warned\n") == 1
