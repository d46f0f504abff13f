"""
What the primary and its fork server say to each other: :mod:`stickyd.control.forking`.
"""

from __future__ import annotations

import errno
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.control.forking import (
    MOST_BYTES,
    read_answer,
    read_order,
    read_preload,
    read_preloaded,
    write_answer,
    write_order,
    write_preload,
    write_preloaded,
)
from stickyd.errors import ControlError
from stickyd.settings import Settings

#: No message of the server's.
GARBAGE = (b"", b"\xff", b"[]", b"{}", b"1", b'"pid"', b"null", b"[" * 5000)


def test_what_is_said_is_what_is_heard() -> None:
    """
    Each message is read as it was meant, and the longest fits where it is read.
    """
    asked = Settings().to_json(), ["/srv/app", "/srv/\N{LATIN SMALL LETTER U WITH DIAERESIS}"]
    assert read_preload(write_preload(*asked)) == asked
    assert len(write_preload(*asked)) * 10 < MOST_BYTES
    assert read_preloaded(write_preloaded("")) == ""
    assert read_preloaded(write_preloaded("threads run")) == "threads run"
    assert read_order(write_order("spare")) == "spare"
    assert read_answer(write_answer(4711)) == 4711


def test_want_of_a_process_is_an_error_of_the_system() -> None:
    """
    An error number is raised as fork(2) here would have raised it.
    """
    with pytest.raises(BlockingIOError) as raised:
        read_answer(write_answer(-errno.EAGAIN))
    assert raised.value.errno == errno.EAGAIN


@pytest.mark.parametrize("data", GARBAGE)
def test_garbage_is_refused(data: bytes) -> None:
    """
    What is no message is a breach, whatever was asked.
    """
    for read in (read_preloaded, read_answer):
        with pytest.raises(ControlError):
            read(data)


@pytest.mark.parametrize(
    "answer",
    [
        {"pid": 0},
        {"pid": 1},
        {"pid": -1},
        {"pid": 1 << 23},
        {"pid": True},
        {"pid": "4711"},
        {"pid": 4711.0},
        {"errno": 0},
        {"errno": -11},
        {"errno": 1 << 40},
        {"errno": "EAGAIN"},
    ],
)
def test_answers_out_of_bounds_are_refused(answer: object) -> None:
    """
    Neither process 1 nor a process group is a worker, and no number is an error but errno's.
    """
    with pytest.raises(ControlError, match="which process it has forked"):
        read_answer(json.dumps(answer).encode())


@given(st.binary())
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    """
    Nothing else is raised, and what is read is in bounds.
    """
    for read in (read_preloaded, read_answer):
        try:
            read(data)
        except (ControlError, OSError):
            continue
