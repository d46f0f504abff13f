"""
A worker's output, told line by line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent

from stickyd.fleet.process import output
from stickyd.fleet.process.label import WorkerLabel
from stickyd.fleet.process.output import LINES_AT_ONCE, TRACEBACK_SECONDS, OutputRelay
from stickyd.fleet.process.output_share import LEAST_PAUSE_SECONDS, REST, OutputShare
from stickyd.log.lines import LONGEST_LINE_BYTES, Line, write_line


@contextmanager
def told() -> Iterator[list[LogEvent]]:
    """
    What is logged in the name of workers meanwhile.
    """
    with capturedLogs() as events:
        lines: list[LogEvent] = []
        yield lines
        lines.extend(event for event in events if event["log_namespace"] == "stickyd.worker")


def relay_all(*pieces: bytes, flush: bool = False) -> list[LogEvent]:
    """
    What is told of pieces that arrive on standard error.
    """
    clock = Clock()
    label = WorkerLabel(None)
    label.begin(1234)
    relay = OutputRelay(clock, OutputShare(clock.seconds), label, lambda stream, reads: None)
    with told() as lines:
        for piece in pieces:
            relay.received(2, piece)
        if flush:
            relay.flush()
        while clock.getDelayedCalls():
            clock.advance(TRACEBACK_SECONDS)
    return lines


def texts(lines: list[LogEvent]) -> list[str]:
    """
    The lines alone.
    """
    return [line["text"] for line in lines]


def test_line_names_its_worker() -> None:
    """
    A line in the primary's log says which process wrote it, in which slot.
    """
    (line,) = relay_all(b"hello\n")
    assert formatEvent(line) == "[worker 1234 spare] hello"


def test_line_is_put_together_byte_by_byte() -> None:
    """
    A line is told once it is complete, however small its pieces were.
    """
    written = "<4>grüße\r\nnext\n".encode()
    lines = relay_all(*(written[i : i + 1] for i in range(len(written))))
    assert [(line["log_level"], line["text"]) for line in lines] == [
        (LogLevel.warn, "grüße"),
        (LogLevel.info, "next"),
    ]


@given(st.lists(st.text("ab<4>é", max_size=12), max_size=6), st.data())
def test_cutting_into_pieces_changes_nothing(written: list[str], data: st.DataObject) -> None:
    """
    The same bytes give the same lines however they are cut into pieces, lines that are
    too long included.
    """
    whole = "".join(f"{line}\n" for line in written).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(output, "LONGEST_LINE_BYTES", 8)
        assert texts(relay_all(*pieces)) == texts(relay_all(whole))


def test_streams_are_not_mixed() -> None:
    """
    A line on standard output is not torn by one on standard error.
    """
    clock = Clock()
    relay = OutputRelay(
        clock, OutputShare(clock.seconds), WorkerLabel(None), lambda stream, reads: None
    )
    with told() as lines:
        relay.received(1, b"out")
        relay.received(2, b"err\n")
        relay.received(1, b"put\n")
    assert texts(lines) == ["err", "output"]


@pytest.mark.parametrize(
    ("mark", "level"),
    [
        (b"<2>", LogLevel.critical),
        (b"<3>", LogLevel.error),
        (b"<4>", LogLevel.warn),
        (b"<5>", LogLevel.info),
        (b"<6>", LogLevel.info),
        (b"<7>", LogLevel.debug),
    ],
)
def test_mark_gives_the_level(mark: bytes, level: object) -> None:
    """
    The worker's own marks decide the level and are not shown.
    """
    (line,) = relay_all(mark + b"text\n")
    assert (line["log_level"], line["text"]) == (level, "text")


@pytest.mark.parametrize("text", ["<1>no", "<8>no", "<33>no", "x<3>no", "<>", "<3"])
def test_what_is_no_mark_is_told_as_it_stands(text: str) -> None:
    """
    A print of the application that only looks like a mark loses nothing.
    """
    (line,) = relay_all(text.encode() + b"\n")
    assert (line["log_level"], line["text"]) == (LogLevel.info, text)


def test_braces_are_not_a_format() -> None:
    """
    What a worker writes is text, never a format of the primary's log.
    """
    (line,) = relay_all(b"{pid} {nothing} {\n")
    assert formatEvent(line) == "[worker 1234 spare] {pid} {nothing} {"


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    """
    Bytes that do not decode lose neither their line nor the sight of them.
    """
    assert texts(relay_all(b"<4>caf\xe9 \xff!\n")) == ["caf\ufffd \ufffd!"]


def test_endless_line_is_told_in_parts() -> None:
    """
    A worker that writes without a newline fills the log, not the primary's memory.
    """
    piece = b"x" * (LONGEST_LINE_BYTES + 1)
    assert [len(text) for text in texts(relay_all(piece, piece))] == [LONGEST_LINE_BYTES] * 2


def test_line_of_the_longest_length_is_kept_whole() -> None:
    """
    The limit itself is still one line; a byte more is two, though the newline is there.
    """
    assert texts(relay_all(b"x" * LONGEST_LINE_BYTES + b"\n")) == ["x" * LONGEST_LINE_BYTES]
    assert texts(relay_all(b"x" * LONGEST_LINE_BYTES + b"y\n")) == ["x" * LONGEST_LINE_BYTES, "y"]


def test_incomplete_line_is_told_at_the_end() -> None:
    """
    The last words of a dying worker need no newline, and are told once.
    """
    clock = Clock()
    relay = OutputRelay(
        clock, OutputShare(clock.seconds), WorkerLabel(None), lambda stream, reads: None
    )
    with told() as lines:
        relay.received(1, b"out")
        relay.received(2, b"<3>err")
        assert not lines
        relay.flush()
        relay.flush()
    assert [(line["log_level"], line["text"]) for line in lines] == [
        (LogLevel.info, "out"),
        (LogLevel.error, "err"),
    ]


def test_flush_without_a_rest_is_silent() -> None:
    """
    Nothing is told of an end with no line under way.
    """
    assert texts(relay_all(b"line\n", flush=True)) == ["line"]
    assert relay_all(flush=True) == []


class Flooded:
    """
    A relay whose every line takes a hundredth of a second to log.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, share: OutputShare | None = None) -> None:
        self.clock = Clock()
        self.spent = Clock()
        self.reading = {1: True, 2: True}
        self.lines: list[bytes] = []
        self.relay = OutputRelay(
            self.clock,
            share or OutputShare(self.spent.seconds),
            WorkerLabel(None),
            self.reading.__setitem__,
        )
        monkeypatch.setattr(self.relay, "_tell", self._tell)

    def _tell(self, stream: int, line: bytes) -> None:
        self.spent.advance(0.01)
        self.lines.append(line)


def test_fault_23_a_flood_is_read_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Fault 23: of what a worker prints without end so many lines are logged in a turn; then its
    pipe rests for longer than that took, and nothing is lost.
    """
    rig = Flooded(monkeypatch)
    rig.relay.received(1, b"".join(b"%d\n" % number for number in range(200)))
    assert len(rig.lines) == LINES_AT_ONCE
    assert rig.reading == {1: False, 2: True}
    rig.clock.advance(LINES_AT_ONCE * 0.01 * REST - 0.001)
    assert len(rig.lines) == LINES_AT_ONCE
    turns = 0
    while rig.clock.getDelayedCalls():
        rig.clock.advance(0.05)
        rig.spent.advance(0.05)
        turns += 1
    assert rig.lines == [b"%d" % number for number in range(200)]
    assert rig.reading == {1: True, 2: True}
    assert turns * 0.05 >= 200 * 0.01 * REST


def test_a_few_lines_are_no_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What takes no time worth a pause stops no pipe.
    """
    rig = Flooded(monkeypatch, OutputShare(lambda: 0.0))
    rig.relay.received(2, b"one\ntwo\n")
    assert rig.reading == {1: True, 2: True}
    assert not rig.clock.getDelayedCalls()
    share = OutputShare(rig.spent.seconds)
    begun = share.begin()
    rig.spent.advance(LEAST_PAUSE_SECONDS / REST / 2)
    assert share.end(begun) == 0.0


def test_end_of_a_worker_that_floods(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Its last words are known at once, and logged in their turn, without a newline behind them
    too.
    """
    rig = Flooded(monkeypatch)
    rig.relay.received(2, b"line\n" * 100 + b"MemoryError")
    rig.relay.flush()
    assert rig.relay.last_words == "MemoryError"
    while rig.clock.getDelayedCalls():
        rig.clock.advance(1)
        rig.spent.advance(1)
    assert rig.lines[-1] == b"MemoryError"
    assert len(rig.lines) == 101


def test_what_is_not_logged_yet_crosses_an_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A successor goes on in the middle of a line, and behind what waits.
    """
    rig, successor = Flooded(monkeypatch), Flooded(monkeypatch)
    rig.relay.received(1, b"line\n" * 70 + b"half")
    successor.relay.restore_state(rig.relay.dump_state())
    successor.relay.received(1, b" and half\n")
    while successor.clock.getDelayedCalls():
        successor.clock.advance(1)
        successor.spent.advance(1)
    assert [*rig.lines, *successor.lines] == [b"line"] * 70 + [b"half and half"]


TRACEBACK = """\
Traceback (most recent call last):
  File "shop.py", line 3, in order
    1 / 0
ZeroDivisionError: division by zero

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "shop.py", line 5, in order
    raise KeyError(3)
KeyError: 3"""


@given(st.data())
def test_printed_traceback_is_one_event(data: st.DataObject) -> None:
    """
    A traceback that the application prints is told in one piece, however it arrives, and what
    follows it by itself.
    """
    written = f"before\n{TRACEBACK}\nafter\n".encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(written)), max_size=5)))
    pieces = [written[a:b] for a, b in zip([0, *cuts], [*cuts, len(written)], strict=True)]
    lines = relay_all(*pieces)
    assert [(line["text"], line["trace"]) for line in lines] == [
        ("before", ""),
        ("", TRACEBACK),
        ("after", ""),
    ]
    assert formatEvent(lines[1]) == f"[worker 1234 spare] {TRACEBACK}"


def test_last_traceback_is_told_at_the_end() -> None:
    """
    A dying worker's traceback is not kept back; its last line is its last words.
    """
    clock = Clock()
    label = WorkerLabel(None)
    relay = OutputRelay(clock, OutputShare(clock.seconds), label, lambda stream, reads: None)
    with told() as lines:
        relay.received(2, TRACEBACK.encode() + b"\n")
        assert relay.last_words == "KeyError: 3"
        relay.flush()
    assert [line["trace"] for line in lines] == [TRACEBACK]
    assert clock.getDelayedCalls() == []


def test_event_of_a_worker_keeps_its_name() -> None:
    """
    What the worker's own log names is logged by that name, with its traceback apart.
    """
    line = Line(LogLevel.error, "It failed", "Traceback…\nValueError", "application.failed")
    (said,) = relay_all(write_line(line).encode())
    assert (said["event"], said["text"], said["trace"]) == (
        "application.failed",
        "It failed",
        "Traceback…\nValueError",
    )
    assert formatEvent(said) == "[worker 1234 spare] It failed\nTraceback…\nValueError"
    assert (said["source"], said["pid"]) == ("spare", 1234)


def test_what_every_worker_says_is_logged_once() -> None:
    """
    Of many workers that cannot import the application one says why; another reason is news.
    """
    share = OutputShare()
    assert share.is_news("application.not-imported", "a")
    assert not share.is_news("application.not-imported", "a")
    assert share.is_news("proxy.not-trusted", "a")
    assert share.is_news("application.not-imported", "b")
    line = Line(LogLevel.error, "no", "Traceback…", "application.not-imported")
    assert len(relay_all(write_line(line).encode() * 2)) == 1
