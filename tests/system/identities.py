"""
Tells what it knows of the worker that runs it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from twisted.web.resource import Resource
from typing_extensions import override

import stickyd
from stickyd import worker

if TYPE_CHECKING:
    from twisted.web.server import Request


def known() -> dict[str, object]:
    """
    All that a worker knows of itself now.
    """
    return {
        "slot": worker.slot,
        "workers": worker.workers,
        "node": worker.node,
        "managed": worker.managed,
        "relieved": worker.relieved,
        "keys": [key.hex() for key in stickyd.secrets("a label")],
    }


#: What it knew when it was imported.
AT_IMPORT = known()


class Told(Resource):
    """
    Tells it in JSON, with its process id.
    """

    isLeaf = True

    @override
    def render(self, request: Request) -> bytes:
        return json.dumps({"pid": os.getpid(), "at_import": AT_IMPORT, **known()}).encode()


root = Told()
