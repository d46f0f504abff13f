"""
A child that was started before the primary's code was replaced: a real one here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.process import reapAllProcesses, reapProcessHandlers
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from stickyd.fleet.process.adopted_process import AdoptedProcess, reap
from stickyd.testing import FakeReadiness


def child_that(code: str) -> int:
    """
    Start a child of this process that nobody waits for.
    """
    return os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)


def wait_until_ended(pid: int) -> None:
    """
    Wait for the end of a child, and leave it to be reaped.
    """
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


class Inherited:
    """
    Such a child, and what was told of it.
    """

    def __init__(self, pid: int) -> None:
        self.clock = Clock()
        self.told: list[Failure] = []
        self.process = AdoptedProcess(
            self.clock,
            FakeReadiness(self.clock),
            pid,
            {},
            lambda number, data: None,
            self.told.append,
        )


@pytest.mark.parametrize(("code", "kind"), [("", ProcessDone), ("exit(3)", ProcessTerminated)])
def test_fault_14_an_end_is_told_in_a_later_turn(code: str, kind: type[Exception]) -> None:
    """
    Fault 14: a child that has ended before anybody looks is told of when the constructor
    has long returned, once, and is reaped.
    """
    pid = child_that(code)
    wait_until_ended(pid)
    inherited = Inherited(pid)
    assert inherited.told == []
    inherited.clock.advance(0)
    reapAllProcesses()
    assert [failure.type for failure in inherited.told] == [kind]
    assert pid not in reapProcessHandlers
    with pytest.raises(ProcessExitedAlready):
        inherited.process.signalProcess(signal.SIGTERM)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_an_end_that_sigchld_tells() -> None:
    """
    One that ends later is told of when the reactor looks for ended children.
    """
    pid = child_that("input()")
    inherited = Inherited(pid)
    inherited.clock.advance(0)
    assert inherited.told == []
    inherited.process.signalProcess(signal.SIGKILL)
    wait_until_ended(pid)
    reapAllProcesses()
    (failure,) = inherited.told
    assert isinstance(failure.value, ProcessTerminated)
    assert failure.value.signal == signal.SIGKILL


def test_fault_14_reaping_one_that_is_gone_hurts_nobody() -> None:
    """
    Fault 14: what a former primary wrote down may have ended, or even been waited for.
    """
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ended = child_that("")
    wait_until_ended(ended)
    living = child_that("input()")
    clock = Clock()
    reap(clock, FakeReadiness(clock), [gone.pid, ended, living])
    wait_until_ended(living)
    clock.advance(0)
    reapAllProcesses()
    assert not {gone.pid, ended, living} & set(reapProcessHandlers)
