"""
The primary's first order, read before the reactor runs.

It names the application, which is imported then: in no running loop, as under uvicorn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.protocols.amp import parseString

from stickyd.control.commands import Serve

if TYPE_CHECKING:
    import socket


def await_first_order(control: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    """
    Wait for the order to serve.

    :param control: our end of the control channel, blocking.
    :return: the arguments of :class:`Serve`, and all bytes that were read, which the protocol
        on that channel is still to be given; :obj:`None` if the primary is gone.
    """
    read = b""
    while not (boxes := parseString(read)):
        data = control.recv(65536)
        if not data:
            return None
        read += data
    arguments: dict[str, Any] = Serve.parseArguments(boxes[0], None)
    return arguments, read
