"""
The body of a response that waits.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stickyd.serve.http2.response_queue import ResponseQueue


@given(
    st.lists(st.binary(max_size=30), max_size=10),
    st.lists(st.integers(0, 20), min_size=1, max_size=10),
)
def test_what_is_taken_is_what_was_put(pieces: list[bytes], sizes: list[int]) -> None:
    """
    Whatever the sizes, nothing is lost, added or turned round, and what is left is known.
    """
    queue = ResponseQueue()
    whole = b"".join(pieces)
    for piece in pieces:
        queue.put(piece)
    taken = b""
    for size in sizes:
        assert queue.size == len(whole) - len(taken)
        found = queue.take(size)
        assert len(found) == min(size, len(whole) - len(taken))
        taken += found
    taken += queue.take(len(whole))
    assert taken == whole
    assert not queue
    assert queue.taken == len(sizes) + 1
    queue.ended = True
    assert queue
