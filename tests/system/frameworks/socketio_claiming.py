"""
python-socketio that claims the ids it mints, which clients send in their query.
"""

from __future__ import annotations

import stickyd
from tests.system.frameworks.socketio_app import app, sio

_generate_id = sio.eio.generate_id


def generate_id() -> str:
    """
    Make an id, and claim it; the response that tells it waits until that is done.
    """
    made: str = _generate_id()
    stickyd.claim(made)
    return made


sio.eio.generate_id = generate_id

__all__ = ["app"]
