"""
A site with state: it counts the visits of each session, in the memory of its worker.

Each worker has a ``Visits`` of its own, and needs no other: a client's requests all
reach the same one.  From this directory::

    twistd -n --pidfile= stickyd --resource visits:root
    curl --cookie-jar cookies --cookie cookies http://127.0.0.1:3000/
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twisted.web.resource import Resource
from typing_extensions import override

from stickyd.interfaces import ISessionData

if TYPE_CHECKING:
    from twisted.web.server import Request


class Visits(Resource):
    """
    Says how often the session that asks has been here.

    What stands in ``ISessionData`` is carried along when another worker takes the session
    over: at a reload, a resize, an upgrade.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        data = request.getSession(ISessionData)
        data["visits"] = data.get("visits", 0) + 1
        return b"Visit %d, worker %d\n" % (data["visits"], os.getpid())


root = Visits()
