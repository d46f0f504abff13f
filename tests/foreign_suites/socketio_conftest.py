"""
Puts our managers in the place of those that python-socketio's tests try.
"""

from __future__ import annotations

from socketio import async_pubsub_manager, pubsub_manager

from stickyd.socketio import AsyncManager, ThreadedManager

async_pubsub_manager.AsyncPubSubManager = AsyncManager
pubsub_manager.PubSubManager = ThreadedManager
