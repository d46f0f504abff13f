"""
Does what must be done once, in each of the ways there are, and keeps a ledger of it.  It runs in
the workers.

``/hang`` blocks the loop of its worker for good.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from typing_extensions import override

from stickyd import leader, worker

if TYPE_CHECKING:
    from twisted.web.server import Request

#: The directory of the ledger and its locks.
VARIABLE = "STICKYD_TEST_LEDGER"

#: Seconds between two entries of a job.
STEP_SECONDS = 0.05


class Ledger:
    """
    The entries of one job, in the order in which they were made.  Whoever begins takes a lock,
    which the kernel frees as it ends: who does not get it writes so.
    """

    def __init__(self, job: str) -> None:
        self._job = job
        flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY
        directory = os.environ[VARIABLE]
        self._file = os.open(os.path.join(directory, "ledger"), flags, 0o600)
        self._lock = os.open(os.path.join(directory, f"{job}.lock"), flags, 0o600)

    def write(self, what: str) -> None:
        """
        Make an entry.
        """
        entry = {
            "job": self._job,
            "what": what,
            "pid": os.getpid(),
            "slot": worker.slot,
            "term": leader.term,
            "at": time.monotonic(),
        }
        os.write(self._file, json.dumps(entry).encode() + b"\n")

    def begin(self) -> None:
        """
        The job begins.
        """
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.write("two at once")
        self.write("begin")

    def end(self) -> None:
        """
        It has ended.
        """
        self.write("end")
        fcntl.flock(self._lock, fcntl.LOCK_UN)


def lead_in_reactor() -> None:
    """
    The one of Twisted.
    """
    ledger = Ledger("reactor")
    working = LoopingCall(ledger.write, "work")

    def begin() -> None:
        ledger.begin()
        working.start(STEP_SECONDS)

    def end() -> None:
        working.stop()
        ledger.end()

    leader.subscribe(begin, end)


def lead_in_coroutine() -> None:
    """
    The one of asyncio.
    """
    ledger = Ledger("coroutine")

    async def work() -> None:
        ledger.begin()
        try:
            while True:
                ledger.write("work")
                await asyncio.sleep(STEP_SECONDS)
        finally:
            ledger.end()

    leader.subscribe(work)


def lead_in_thread() -> None:
    """
    The one that blocks.
    """
    ledger = Ledger("thread")
    told = threading.Event()

    def work() -> None:
        told.clear()
        ledger.begin()
        while leader.is_leader() and not told.wait(STEP_SECONDS):
            ledger.write("work")
        ledger.end()

    leader.subscribe(work, told.set, thread=True)


def lead_by_the_book() -> None:
    """
    The one that the documentation prints.
    """
    page = Path(__file__).resolve().parents[2] / "docs/one-application.md"
    (text,) = (
        block
        for block in re.findall("```python\n(.*?)```", page.read_text(), re.DOTALL)
        if "apscheduler" in block
    )
    assert "minutes=1" in text
    ledger = Ledger("scheduler")
    exec(
        text.replace("minutes=1", f"seconds={STEP_SECONDS}"),
        {"send_reports": lambda: ledger.write("work")},
    )


if VARIABLE in os.environ:  # else this is the test itself
    lead_in_reactor()
    lead_in_coroutine()
    lead_in_thread()
    lead_by_the_book()


class Root(Resource):
    """
    Tells which worker it is, or hangs.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        if request.path == b"/hang":
            time.sleep(3600)
        return json.dumps({"slot": worker.slot, "pid": os.getpid()}).encode()


root = Root()
