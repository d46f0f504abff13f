"""
The demonstration: counts the hits of each client, in this worker's memory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twisted.web.resource import Resource
from typing_extensions import override

if TYPE_CHECKING:
    from twisted.web.server import Request


class Counter(Resource):
    """
    Answers ``Worker <pid> session hits: <n>`` at every path.

    As long as one client always reaches one worker, ``n`` rises by one each time.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self._hits: dict[object, int] = {}
        self._pid = os.getpid()

    @override
    def render(self, request: Request) -> bytes:
        address = request.getClientAddress()
        client = getattr(address, "host", address)
        hits = self._hits[client] = self._hits.get(client, 0) + 1
        return b"Worker %d session hits: %d\n" % (self._pid, hits)
