"""
Pieces of a response between the application's thread and the loop.
"""

from __future__ import annotations

import threading

from stickyd.serve.wsgi.call import LAST, MORE
from stickyd.serve.wsgi.pieces import HIGH_WATER_BYTES, Pieces

BLOCK = b"x" * (HIGH_WATER_BYTES // 4)


def crowd(pieces: Pieces) -> None:
    """
    Put one block more than there is room for.
    """
    for _ in range(5):
        pieces.put(None, BLOCK, MORE)


def waiting(pieces: Pieces) -> threading.Thread:
    """
    A thread that waits for room, seen to wait.
    """
    thread = threading.Thread(target=pieces.wait_for_room)
    thread.start()
    while pieces._room is None:
        assert thread.is_alive()
    return thread


def test_come_out_as_they_went_in() -> None:
    """
    In order, and none is left.
    """
    pieces = Pieces()
    assert not pieces
    pieces.put(None, b"a", MORE)
    pieces.put(None, b"b", LAST)
    assert [pieces.take(), pieces.take()] == [(None, b"a", MORE), (None, b"b", LAST)]
    assert not pieces


def test_thread_goes_on_while_the_client_keeps_up() -> None:
    """
    It does not wait for what is below the mark.
    """
    pieces = Pieces()
    for _ in range(4):
        pieces.put(None, BLOCK, MORE)
    pieces.wait_for_room()


def test_thread_waits_until_the_client_has_taken_most() -> None:
    """
    It is woken at a quarter of the mark, and not before.
    """
    pieces = Pieces()
    crowd(pieces)
    thread = waiting(pieces)
    for _ in range(3):
        pieces.take()
        pieces.make_room()
        assert pieces._room is not None
    pieces.take()
    pieces.make_room()
    thread.join()


def test_thread_is_woken_by_the_end() -> None:
    """
    Nobody takes the rest, and what is put later is dropped.
    """
    pieces = Pieces()
    crowd(pieces)
    thread = waiting(pieces)
    pieces.close()
    thread.join()
    crowd(pieces)
    pieces.wait_for_room()
    assert not pieces
