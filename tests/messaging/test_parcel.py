"""
Parcels between fleets: what is read, what is refused, and what is known to be missing.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.errors import FrameError
from stickyd.messaging.frame import Kind, encode, payload_in
from stickyd.messaging.parcel import Numbers, Parcel, pack, unpack

FLEET, WORKER, OTHER = b"fleet..1", b"worker.1", b"worker.2"


def frames(*data: bytes) -> list[bytes]:
    """
    Messages.
    """
    return [encode(Kind.PUBLISH, b"news", each) for each in data]


def parcel(first: int, *data: bytes, worker: bytes = WORKER) -> Parcel:
    """
    What another fleet reads of it.
    """
    return unpack(pack(FLEET, worker, first, frames(*data)))


@given(st.integers(0, 2**64 - 1), st.lists(st.binary(max_size=50), max_size=5))
def test_read_what_was_written(first: int, data: list[bytes]) -> None:
    """
    Whatever it is.
    """
    read = parcel(first, *data)
    assert (read.fleet, read.worker, read.first) == (FLEET, WORKER, first)
    assert [payload_in(message) for message in read.messages] == data


@given(st.data())
def test_cut_or_changed_is_refused_or_another_parcel(data: st.DataObject) -> None:
    """
    Nothing else can happen to whoever reads it.
    """
    whole = bytearray(pack(FLEET, WORKER, 7, frames(b"a", b"b")))
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        with pytest.raises(FrameError):
            unpack(bytes(whole[:at]))
        return
    whole[at] ^= data.draw(st.integers(1, 255))
    try:
        unpack(bytes(whole))
    except FrameError:
        pass


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"hello",
        pack(FLEET, WORKER, 0, frames(b"a")) + b"x",
        pack(FLEET, WORKER, 0, frames(b"a"))[:-1],
        pack(FLEET, WORKER, 0, [encode(Kind.SUBSCRIBE, b"news")]),
        b"SBU9" + pack(FLEET, WORKER, 0, [])[4:],
    ],
)
def test_garbage_is_refused(wrong: bytes) -> None:
    """
    Another program may use the channel.
    """
    with pytest.raises(FrameError):
        unpack(wrong)


def test_what_is_missing_is_known_and_nothing_comes_twice() -> None:
    """
    By the numbers; of a worker that is heard for the first time nothing is missing.
    """
    numbers = Numbers()

    def take(first: int, *data: bytes, worker: bytes = WORKER) -> tuple[list[bytes], int]:
        messages, lost = numbers.take(parcel(first, *data, worker=worker))
        return [payload_in(message) for message in messages], lost

    assert take(100, b"a", b"b") == ([b"a", b"b"], 0)
    assert take(102, b"c") == ([b"c"], 0)
    assert take(0, b"x", worker=OTHER) == ([b"x"], 0)
    assert take(105, b"d") == ([b"d"], 2)
    assert take(105, b"d", b"e") == ([b"e"], 0)
    assert take(103, b"late") == ([], 0)
    assert take(107, b"f") == ([b"f"], 0)


def test_workers_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Those of which nothing was heard for longest are forgotten.
    """
    monkeypatch.setattr(Numbers, "MOST_WORKERS", 2)
    numbers = Numbers()
    for worker in (b"1" * 8, b"2" * 8, b"1" * 8, b"3" * 8):
        numbers.take(parcel(0, b"a", worker=worker))
    assert numbers.take(parcel(5, b"a", worker=b"1" * 8))[1] == 4
    assert numbers.take(parcel(5, b"a", worker=b"2" * 8))[1] == 0
