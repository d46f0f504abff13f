"""
What all connections of an ASGI application share.
"""

from __future__ import annotations

from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stickyd.serve.http.head import FieldBlocks

if TYPE_CHECKING:
    import asyncio
    from contextvars import Context

    import uvicorn
    from uvicorn.server import ServerState

    from stickyd.serve.http.context import Route
    from stickyd.serve.http.limits import HTTPLimits


@dataclass
class AsgiContext:
    """
    What all connections of a host share.

    :ivar config: uvicorn's settings, loaded.
    :ivar state: uvicorn's own, which counts connections, tasks and requests.
    :ivar app_state: what the lifespan has put into ``scope["state"]``; each request gets a
        copy.
    :ivar loop: the worker's.
    :ivar limits: the bounds.
    :ivar route: see :class:`stickyd.serve.http.context.Shared`.
    :ivar blocks: how field blocks were parsed.
    :ivar variables: the context variables that requests begin with; nothing that another
        request has set is among them.
    """

    config: uvicorn.Config
    state: ServerState
    app_state: dict[str, Any]
    loop: asyncio.AbstractEventLoop
    limits: HTTPLimits
    route: Route | None = None
    blocks: FieldBlocks = field(init=False)
    variables: Context = field(default_factory=copy_context)

    def __post_init__(self) -> None:
        """
        Make what is made of the limits.
        """
        self.blocks = FieldBlocks(self.limits)
