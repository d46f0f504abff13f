"""
The lines between a worker's log and the primary's: :mod:`stickyd.log.lines`.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel

from stickyd.log.events import EVENTS
from stickyd.log.lines import LEVELS, LONGEST_LINE_BYTES, Line, read_line, write_line

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.builds(Line, st.sampled_from([*LEVELS.values()]), ANY_TEXT, ANY_TEXT,
                 st.sampled_from(["", *EVENTS])))  # fmt: skip
def test_what_is_written_is_read(line: Line) -> None:
    """
    One line on the way, whatever the event consists of.
    """
    written = write_line(line)
    assert written.endswith("\n")
    assert written.count("\n") == 1
    expected = Line(
        line.level,
        "\n".join(line.text.splitlines()),
        "\n".join(line.trace.splitlines()),
        line.event,
    )
    assert read_line(written[:-1].encode()) == expected


@pytest.mark.parametrize("character", ["x", "\x01", "é", "\U0001f600", "x\n"])
def test_line_is_never_too_long(character: str) -> None:
    """
    The primary would cut it into pieces: what is too long is shortened, a traceback least at
    its end, where the error stands.
    """
    line = Line(LogLevel.error, character * 50_000, character * 99_990 + "ValueError: end")
    written = write_line(line)
    assert len(written.encode()) <= LONGEST_LINE_BYTES
    read = read_line(written[:-1].encode())
    assert read.trace.endswith("ValueError: end")
    assert "characters are left out" in read.trace


@given(st.one_of(st.binary(), st.builds(lambda data: b"<3>\x1e" + data, st.binary())))
def test_anything_can_be_read(data: bytes) -> None:
    """
    Whatever an application writes is a line of some kind.
    """
    read = read_line(data)
    str(read).encode()


@pytest.mark.parametrize(
    "plain",
    ["", "{", "[]", "1", '{"text": 1}', '{"text": ["a"]}', "[" * 100_000, '{"a": {"b": 1}}'],
)
def test_what_is_no_event_stands_as_it_is(plain: str) -> None:
    """
    The application may write the separator too.
    """
    assert read_line(f"<4>\x1e{plain}".encode()) == Line(LogLevel.warn, f"\x1e{plain}")


def test_names_are_checked() -> None:
    """
    A name that is none of ours is not passed on, nor a half of a pair that cannot be written.
    """
    read = read_line(b'<3>\x1e{"text": "a \\ud83d b", "event": "made.up"}')
    assert read.event == ""
    read.text.encode()
