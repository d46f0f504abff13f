"""
What python-socketio's managers say to each other, as JSON.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

from socketio.packet import Packet


def write(message: dict[str, Any], json: Any) -> bytes:
    """
    Write a message.

    What is emitted has its bytes taken out by python-socketio; what a client has answered has
    not.

    :param json: the server's own module, which may write more than the standard one.
    """
    arguments = message.get("args")
    if arguments is not None and Packet.data_is_binary(list(arguments)):
        text, parts = Packet.deconstruct_binary(list(arguments))
        message = {**message, "args": [text, *(b64encode(part).decode() for part in parts)]}
        message["binary"] = True
    written: str = json.dumps(message)
    return written.encode()


def read(data: bytes, json: Any) -> dict[str, Any]:
    """
    Read a message.

    :raises ValueError: if it is none.
    """
    message = json.loads(data.decode())
    if not isinstance(message, dict):
        raise ValueError("it is no object")
    if message.get("binary") and "args" in message:
        text, *parts = message["args"]
        message["args"] = Packet.reconstruct_binary(text, [b64decode(part) for part in parts])
    return message
