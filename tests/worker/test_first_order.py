"""
The order to serve, read before the reactor runs.
"""

from __future__ import annotations

import socket
import threading

import pytest
from twisted.protocols.amp import AmpBox

from stickyd.control.commands import Place, Serve
from stickyd.worker.first_order import await_first_order

#: What the primary sends first, and what may follow at once.
ORDER = {
    "settings": "{}",
    "slot": 3,
    "path": ["/a", "/b"],
    "secrets": [b"s" * 16],
    "session_keys": [b"k" * 16],
    "generation": 7,
    "run": "0123abcd",
    "slots": 4,
}
FIRST = AmpBox(Serve.makeArguments(ORDER, None), _ask=b"1", _command=b"Serve").serialize()
NEXT = AmpBox(
    Place.makeArguments({"slots": 1, "standing": [0]}, None), _ask=b"2", _command=b"Place"
).serialize()


@pytest.mark.parametrize("rest", [b"", NEXT[:5], NEXT])
@pytest.mark.parametrize("size", [1, 3, 100_000])
def test_order_is_read_however_it_is_cut(rest: bytes, size: int) -> None:
    """
    The arguments are told, and every byte that was read is given on, with what came behind.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def send() -> None:
            data = FIRST + rest
            for begin in range(0, len(data), size):
                theirs.sendall(data[begin : begin + size])
            theirs.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        order = await_first_order(ours)
        assert order is not None
        arguments, read = order
        sender.join()
        while data := ours.recv(1000):
            read += data
        assert arguments == ORDER
        assert read == FIRST + rest


@pytest.mark.parametrize("sent", [b"", FIRST[:10]])
def test_primary_that_is_gone(sent: bytes) -> None:
    """
    The end of the channel before the order is no order.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(sent)
        assert await_first_order(ours) is None
