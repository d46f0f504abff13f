"""
klein, which makes a twisted.web resource.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from klein import Klein

if TYPE_CHECKING:
    from twisted.web.iweb import IRequest

app = Klein()


@app.route("/")
def home(request: IRequest) -> bytes:
    """
    Tell who serves whom.
    """
    return json.dumps({"pid": os.getpid(), "host": request.getClientAddress().host}).encode()


@app.route("/boom")
def boom(request: IRequest) -> None:
    """
    Fail.
    """
    raise ValueError("boom")
