"""
What an ASGI application is served with, and uvicorn's settings for it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, cast

import uvicorn

from stickyd.figures.request_counts import RequestCounts
from stickyd.serve.http.limits import HTTPLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.serve.asgi.lifespan import AsgiApplication


@dataclass(frozen=True)
class AsgiOptions:
    """
    What an ASGI application may be served with.

    :ivar root_path: the prefix that a proxy in front takes off the path; with a slash
        before and none behind.
    :ivar lifespan: ``auto``, ``on`` or ``off``; see :class:`Lifespan`.
    :ivar limit_concurrency: more connections or running requests than this in one worker
        get 503; 0 is no limit.
    :ivar ws_max_size: the longest WebSocket message, in bytes.
    :ivar limits: the bounds of requests and times.
    :ivar counts: where requests are counted.
    :ivar forwarded: called once as soon as a request says for whom it was forwarded.
    """

    root_path: str = ""
    lifespan: str = "auto"
    limit_concurrency: int = 0
    ws_max_size: int = 16 * 1024 * 1024
    limits: HTTPLimits = field(default_factory=HTTPLimits)
    counts: RequestCounts = field(default_factory=RequestCounts)
    forwarded: Callable[[], object] | None = None


def _websocket_protocol() -> Any:
    """
    Choose who speaks WebSocket: our own on uvicorn's, or what uvicorn finds.
    """
    if find_spec("websockets") is None:
        return "auto"
    from stickyd.serve.asgi.websocket import WebSocketProtocol

    return WebSocketProtocol


def configure(application: AsgiApplication, options: AsgiOptions) -> uvicorn.Config:
    """
    Make uvicorn's settings, and have it find its protocols.
    """
    logger = logging.getLogger("uvicorn.error")
    if logger.level == logging.NOTSET:
        # Its lines at INFO are one for each WebSocket; and without a level of its own
        # it formats two more for each connection, which nobody sees.
        logger.setLevel(logging.WARNING)
    config = uvicorn.Config(
        # uvicorn calls whatever it is given, without arguments, to see whether that is
        # the application or makes it; for a factory it does not guess.
        lambda: application,
        factory=True,
        interface="asgi3",
        ws=_websocket_protocol(),
        ws_max_size=options.ws_max_size,
        lifespan=cast("Literal['auto', 'on', 'off']", options.lifespan),
        log_config=None,
        access_log=False,
        # Whom to believe is decided once, by our own --trust; uvicorn would believe
        # everybody on 127.0.0.1.
        proxy_headers=False,
        root_path=options.root_path,
        limit_concurrency=options.limit_concurrency or None,
        workers=1,  # or it would read WEB_CONCURRENCY
    )
    config.load()
    return config
