"""
Reloads, and workers that are replaced by themselves, leave nothing behind.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from tests.system.asking import Asking
from tests.system.client import Client, ask_once
from tests.system.processes import descriptors_of, eventually, resident_kib
from tests.system.server import LONG, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.conftest import Start
    from tests.system.server import Server

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))

#: Where memory with a name would be, and what begins the names that Python would give it, or we.
SHARED = Path("/dev/shm")
NAMED = ("stickyd", "psm_", "mp-", "pym-", "sem.")

#: What a primary's memory may grow by that is no leak: the allocator's own.
SLACK_KIB = 2048


class Folders:
    """
    All places where a server may leave files.
    """

    def __init__(self, above: Path) -> None:
        self._folders = {name: above / name for name in ("TMPDIR", "RUNTIME_DIRECTORY", "HOME")}
        for folder in self._folders.values():
            folder.mkdir()

    @property
    def variables(self) -> dict[str, str]:
        """
        What tells a server of them.
        """
        return {name: str(folder) for name, folder in self._folders.items()}

    def files(self) -> set[str]:
        """
        All files there are.
        """
        found = {str(path) for folder in self._folders.values() for path in folder.rglob("*")}
        return found | {name for name in os.listdir(SHARED) if name.startswith(NAMED)}


def open_files_of(pid: int) -> Counter[str]:
    """
    How many descriptors of each kind a process has: sockets, pipes, pages of figures, files.
    """
    kinds: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kinds[os.readlink(entry).partition(":[")[0].removesuffix(" (deleted)")] += 1
        except FileNotFoundError:
            continue
    return kinds


def settled(server: Server, count: int) -> int:
    """
    Wait until the relieved workers have gone.

    :return: how many descriptors the primary has then.
    """
    server.log.wait_for(r"Worker \d+ \(slot 0\) exited with code 0", count=count)
    before = len(descriptors_of(server.pid))
    # The pipes of the last one may be about to be closed.
    eventually(lambda: len(descriptors_of(server.pid)) < before, 0.3)
    return len(descriptors_of(server.pid))


def reload_often(start: Start, above: Path, first: int, times: int) -> None:
    """
    Reload so often, and compare what the primary has after the first few and after the last.
    """
    folders = Folders(above)
    server = start("--static", "tests/system/newborn", workers=1, variables=folders.variables)
    files = folders.files()
    with Client(server.target) as client:
        for _ in range(first):
            server.reload()
        descriptors, memory = settled(server, first), resident_kib(server.pid)
        for _ in range(times - first):
            server.reload()
        assert settled(server, times) == descriptors
        assert folders.files() == files
        grown = resident_kib(server.pid) - memory
        assert grown <= SLACK_KIB, f"{grown} KiB in {times - first} reloads"
        assert client.ask("/none").status == 404
    # The figure of docs/reliability.md.
    print(  # noqa: T201
        f"| {times} reloads of a tiny application | {descriptors} descriptors after number"
        f" {first} and after the last; {grown:+d} KiB |"
    )


def test_reloads_leave_nothing_behind(start: Start, tmp_path: Path) -> None:
    """
    Descriptors, memory and files are after some reloads what they were after the first few.
    """
    reload_often(start, tmp_path, 3, 7)


@pytest.mark.soak
def test_many_reloads_leave_nothing_behind(start: Start, tmp_path: Path) -> None:
    """
    The same for 200, and after ten.
    """
    reload_often(start, tmp_path, 10, 200)


class Replaced:
    """
    A server whose workers are replaced after each request, but most of them killed before.
    """

    def __init__(self, start: Start, folders: Folders) -> None:
        self.server = start(
            *("--static", "tests/system/newborn", "--admin", "0"),
            *("--max-requests", "1", "--backoff", "0.01", "--backoff-limit", "0.01"),
            variables=folders.variables,
            workers=4,
        )
        self.server.allow("died of signal 9", "No answer", "Connection of")
        self.asking = Asking(self.server)

    def count(self) -> int:
        """
        How many workers have been replaced.
        """
        return int(self.asking.total("stickyd_worker_restarts_total"))

    def replace(self, enough: Callable[[], bool]) -> int:
        """
        Make requests, and kill three of four workers as soon as they serve, until there is enough.

        :return: how many workers have been replaced so far, once the last of them has gone.
        """
        ending, met = Event(), set(self.server.serving())

        def ask(source: str) -> None:
            while not ending.is_set():
                with suppress(OSError, AssertionError):  # its worker was killed
                    ask_once(self.server.target, source)

        threads = [Thread(target=ask, args=(f"127.0.5.{n}",)) for n in range(1, 5)]
        for thread in threads:
            thread.start()
        try:
            while not enough():
                for pid in set(self.server.serving()) - met:
                    met.add(pid)
                    if len(met) % 4:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                ending.wait(0.2)
        finally:
            ending.set()
            for thread in threads:
                thread.join()
        # The last answers have workers replaced that have not told of them.
        assert eventually(self._is_calm, 4 * SOAK_SECONDS)
        return self.count()

    def _is_calm(self) -> bool:
        before = self.count()
        self.server.pause(5)
        return self.count() == before and len(self.server.serving()) == self.server.workers


@pytest.mark.soak
def test_replaced_workers_leave_nothing_behind(start: Start, tmp_path: Path) -> None:
    """
    Neither files, nor named memory, nor descriptors, nor memory, as workers are replaced or
    killed for ``SOAK_SECONDS``.
    """
    folders = Folders(tmp_path)
    replaced = Replaced(start, folders)
    pid = replaced.server.pid
    begun = replaced.replace(lambda: replaced.count() >= 120)
    files, descriptors, memory = folders.files(), open_files_of(pid), resident_kib(pid)
    ends = time.monotonic() + SOAK_SECONDS
    count = replaced.replace(lambda: time.monotonic() > ends)
    assert folders.files() == files
    # Of the clients' connections one may be about to be closed.
    assert eventually(lambda: open_files_of(pid) <= descriptors), (descriptors, open_files_of(pid))
    grown = resident_kib(pid) - memory
    assert grown <= SLACK_KIB, f"{grown} KiB by {count - begun} workers"
    # This figure and the next are in docs/reliability.md.
    print(  # noqa: T201
        f"| {count} workers that were replaced or killed | {descriptors.total()} descriptors"
        f" after number {begun} and after the last; no file; {grown:+d} KiB |"
    )


@pytest.mark.soak
def test_stillborn_workers_leave_nothing_behind(start: Start, tmp_path: Path) -> None:
    """
    The same with workers that end as soon as they are started, which are ten times as many.
    """
    folders = Folders(tmp_path)
    ends_them = tmp_path / "stillborn"
    path = f"{ROOT / 'tests/system/stillborn'}{os.pathsep}{ROOT}"
    server = start(
        *("--static", "tests/system/newborn", "--admin", "0"),
        *("--backoff", "0.01", "--backoff-limit", "0.01"),
        variables={
            **folders.variables,
            "PYTHONPATH": path,
            "STICKYD_TEST_STILLBORN": str(ends_them),
        },
    )
    server.allow("exited with code 1", "died of signal 9", "failed", "have the affinity key")
    asking = Asking(server)

    def count() -> int:
        return int(asking.total("stickyd_worker_restarts_total"))

    def state() -> tuple[set[str], Counter[str], int]:
        """
        All that the primary has, when two workers serve.
        """
        begun = server.log.mark()
        ends_them.unlink()
        server.log.wait_for(r"Worker \d+ online", begun, count=2, timeout=LONG)
        return folders.files(), open_files_of(server.pid), resident_kib(server.pid)

    def have_many(enough: Callable[[], bool]) -> tuple[set[str], Counter[str], int]:
        ends_them.touch()
        for slot in (0, 1):
            os.kill(server.worker(slot), signal.SIGKILL)
        while not enough():
            server.pause(1)
        return state()

    files, descriptors, memory = have_many(lambda: count() >= 300)
    begun, ends = count(), time.monotonic() + SOAK_SECONDS
    files_after, _, memory_after = have_many(lambda: time.monotonic() > ends)
    assert files_after == files
    assert eventually(lambda: open_files_of(server.pid) <= descriptors)
    grown = memory_after - memory
    assert grown <= SLACK_KIB, f"{grown} KiB by {count() - begun} workers"
    print(  # noqa: T201
        f"| {count()} workers that end as soon as they are started | {descriptors.total()}"
        f" descriptors after number {begun} and after the last; no file; {grown:+d} KiB |"
    )
