from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.aims import Aim, workers
from benchmarks.catalogue import Setting, catalogue, command_system
from benchmarks.compare import problems
from benchmarks.generator import Outcome, Stickiness
from benchmarks.measuring import Slice
from benchmarks.processes import look
from benchmarks.rounds import Schedule
from benchmarks.running import Running, StartError, free_port
from benchmarks.tables import rows, stickiness_verdict, undisturbed

SERVER = """
import http.server, os, signal, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"Worker %d session hits: 1\\n" % PID
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

port, directory, how = int(sys.argv[1]), sys.argv[2], sys.argv[3]
PID = 1 if how == "stranger" else os.getpid()
server = http.server.HTTPServer(("127.0.0.1", port), Handler)
child = os.fork() if how in ("stubborn", "orphaning") else -1
if child == 0:
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
with open(directory + "/child", "w") as note:
    note.write(str(child))
if how == "orphaning":
    sys.exit(3)
server.serve_forever()
"""


class Stage:
    """
    A place where the server above can be started in one way or another.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.running: Running | None = None

    def start(self, how: str) -> Running:
        """
        Start it.
        """
        (self._directory / "server.py").write_text(SERVER)
        command = f"{{python}} {self._directory}/server.py {{port}} {self._directory} {how}"
        place = self._directory
        setting = Setting(free_port(), free_port, 1, place, place / "floor", None)
        self.running = Running(command_system(how, command))
        self.running.start(setting)
        return self.running

    def child(self) -> int:
        """
        The pid of the server's child.
        """
        return int((self._directory / "child").read_text())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """
    A stage that is cleared afterwards.
    """
    made = Stage(tmp_path)
    yield made
    if made.running:
        made.running.stop(patience=0)


def test_stopped_system_leaves_nothing(stage: Stage) -> None:
    """
    A system that ends on SIGTERM is not killed.
    """
    running = stage.start("well-behaved")
    pid = running.primary()
    assert list(running.members()) == [pid]
    assert running.stop() == []
    assert look(pid) is None


def test_stubborn_worker_is_killed(stage: Stage) -> None:
    """
    A worker that does not end with its primary is killed, and told of.
    """
    running = stage.start("stubborn")
    members = running.members()
    assert {pid: member.front for pid, member in members.items()} == {
        running.primary(): True,
        stage.child(): False,
    }
    assert running.stop(patience=0.2) == [stage.child()]
    assert look(stage.child()) is None


def test_failed_start_leaves_no_orphan(stage: Stage) -> None:
    """
    Where the primary ends at once the start fails, and its worker is not left behind.
    """
    with pytest.raises(StartError, match="ended: 3"):
        stage.start("orphaning")
    assert look(stage.child()) is None


def test_stranger_on_the_port_is_noticed(stage: Stage) -> None:
    """
    An answer from a process that is not of the system means that another took the port.
    """
    with pytest.raises(StartError, match="a stranger answers"):
        stage.start("stranger")


def piece(system: str, number: int, seconds: float, **verdict: int) -> Slice:
    """
    A slice of 10,000 answers that took so many CPU seconds.
    """
    found = {"sources": 8, "moved_sources": 0, "moves": 0, "order_checked": 9992, "order_wrong": 0}
    stickiness = Stickiness(**{**found, "unreadable": 0, **verdict}, pids={"1": 1, "2": 1})
    outcome = Outcome(
        mode="close",
        seconds=1.0,
        begun=10_000,
        answered=10_000,
        failed=0,
        opened=10_000,
        no_eof=0,
        trailing=0,
        interrupted=False,
        per_second=10_000.0,
        cpu_seconds=0.5,
        failures={},
        failed_in={},
        latency_ms={"mean": 1, "p50": 1, "p90": 1, "p99": 1, "max": 1},
        stickiness=stickiness,
    )
    return Slice(system, "close", number, 0.0, seconds, 1024, 3, 0.0, False, outcome)


def test_ratios_are_taken_within_rounds() -> None:
    """
    A slow phase of the machine that hits a whole round does not change a ratio.
    """
    slices = [
        *(piece("ours", number, seconds) for number, seconds in enumerate([1.0, 3.0, 1.0])),
        *(piece("theirs", number, seconds) for number, seconds in enumerate([2.0, 6.0, 6.0])),
    ]
    ours, theirs = rows(slices, "close", against="ours")
    assert (ours.system, ours.total, ours.ratio) == ("ours", 1.0, 1.0)
    assert (theirs.total, theirs.ratio) == pytest.approx((6.0, 2.0))
    assert math.isnan(rows(slices, "close", against="nobody")[0].ratio)


def test_disturbed_slices_are_left_out() -> None:
    """
    A slice that other programs disturbed does not count, whatever its figures.
    """
    slices = [piece("ours", number, 1.0) for number in range(3)]
    slices[1] = dataclasses.replace(slices[1], foreign_cpus=0.5)
    assert undisturbed(slices, 0.5) == slices
    assert undisturbed(slices, 0.4) == [slices[0], slices[2]]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ({}, "yes"),
        ({"moved_sources": 2, "moves": 3}, "no: 2 of 8 moved"),
        ({"order_wrong": 4}, "no: 4 counts wrong"),
    ],
)
def test_one_bad_slice_decides_the_verdict(verdict: dict[str, int], words: str) -> None:
    """
    A system is sticky only if all its slices were.
    """
    slices = [piece("ours", 0, 1.0), piece("ours", 1, 1.0, **verdict), piece("ours", 2, 1.0)]
    assert stickiness_verdict(slices) == words
    assert len(problems(slices)) == bool(verdict)


def test_system_that_need_not_be_sticky_passes() -> None:
    """
    Moved clients fail a smoke run only where the system promises to keep them.
    """
    moved = [piece("unrouted", 0, 1.0, moved_sources=2, moves=3)]
    assert problems(moved, frozenset({"unrouted"})) == []
    assert len(problems(moved, frozenset({"others"}))) == 1


@pytest.mark.parametrize(("most", "verdict"), [(0.5, "met"), (0.4, "**not met**"), (None, "")])
def test_aim_is_judged_by_the_median_of_the_rounds(most: float | None, verdict: str) -> None:
    """
    An aim is held to the middle one of its rounds' ratios; without a bound it is only shown.
    """
    slices = [
        *(piece("ours", number, seconds) for number, seconds in enumerate([1.0, 9.0, 0.1])),
        *(piece("theirs", number, seconds) for number, seconds in enumerate([2.0, 6.0, 6.0])),
    ]
    aim = Aim("ours, of theirs", "ours", "theirs", workers, most)
    assert aim.measured(slices) == pytest.approx(0.5)
    shown = "" if most is None else f"{most:g}"
    assert aim.cells(slices) == ["ours, of theirs", shown, "0.50", verdict]
    assert math.isnan(dataclasses.replace(aim, against="nobody").measured(slices))


def test_clients_of_a_system_keep_its_cookie() -> None:
    """
    Whoever loads a system by cookie has its clients send that cookie back.
    """
    schedule = Schedule(1, 1.0, 1.0, ("close",), 4, 8, "net", 200)
    by_cookie = schedule.load(Running(catalogue()["stickyd-cookie"]), "close", 1.0)
    assert "--cookie=stickyd" in by_cookie.arguments()
    by_address = schedule.load(Running(catalogue()["stickyd"]), "close", 1.0)
    assert not [word for word in by_address.arguments() if "cookie" in word]
