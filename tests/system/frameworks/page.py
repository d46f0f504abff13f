"""
A page for browsers: it counts in the session, by ``fetch``, and talks over a WebSocket.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from twisted.web.resource import Resource
from twisted.web.websocket import WebSocketResource
from typing_extensions import override

from stickyd.interfaces import ISessionData
from tests.system.moving_apps import Echoes

if TYPE_CHECKING:
    from twisted.web.server import Request

_PAGE = """<!doctype html>
<html lang="en">
<title>A page</title>
<link rel="icon" href="data:,">
<script>
const pid = %d;

async function count() {
  const response = await fetch('/count');
  if (!response.ok) throw new Error(`${response.status}`);
  return response.json();
}

const socket = new Promise((resolve, reject) => {
  const made = new WebSocket(location.origin.replace('http', 'ws') + '/ws');
  made.onopen = () => resolve(made);
  made.onerror = () => reject(new Error('the WebSocket failed'));
});

async function talk(text) {
  const open = await socket;
  return new Promise((resolve, reject) => {
    open.onmessage = (message) => resolve(message.data);
    open.onclose = (event) => reject(new Error(`closed with ${event.code}`));
    open.send(text);
  });
}
</script>
"""


class _Home(Resource):
    @override
    def render(self, request: Request) -> bytes:
        """
        Give the page, which knows the pid.
        """
        request.setHeader("content-type", "text/html; charset=utf-8")
        return (_PAGE % os.getpid()).encode()


class _Count(Resource):
    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        """
        Count in the session.
        """
        data = request.getSession(ISessionData)
        data["count"] = data.get("count", 0) + 1
        request.setHeader("content-type", "application/json")
        request.setHeader("cache-control", "no-store")
        return json.dumps({"pid": os.getpid(), "count": data["count"]}).encode()


def site() -> Resource:
    """
    All of it: ``/``, ``/count``, ``/ws``.
    """
    root = Resource()
    root.putChild(b"", _Home())
    root.putChild(b"count", _Count())
    root.putChild(b"ws", WebSocketResource(Echoes()))
    return root
