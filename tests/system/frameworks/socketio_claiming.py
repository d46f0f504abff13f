"""
python-socketio that claims the ids it mints, which clients send in their query.
"""

from __future__ import annotations

import stickyd.socketio
from tests.system.frameworks.socketio_app import app, sio

stickyd.socketio.attach(sio)

__all__ = ["app"]
