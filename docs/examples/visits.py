"""
A site with state: it counts the visits of each session, in the memory of its worker.

Each worker has a ``Visits`` of its own, and needs no other: a client's requests all
reach the same one.  From this directory::

    twistd -n --pidfile= stickyd --resource visits:root
    curl --cookie-jar cookies --cookie cookies http://127.0.0.1:3000/
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from twisted.web.resource import Resource
from typing_extensions import override

if TYPE_CHECKING:
    from twisted.web.server import Request


class Visits(Resource):
    """
    Says how often the session that asks has been here.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self._visits: Counter[bytes] = Counter()

    @override
    def render(self, request: Request) -> bytes:
        session = request.getSession()
        if session.uid not in self._visits:
            session.notifyOnExpire(lambda: self._visits.pop(session.uid))
        self._visits[session.uid] += 1
        return b"Visit %d, worker %d\n" % (self._visits[session.uid], os.getpid())


root = Visits()
