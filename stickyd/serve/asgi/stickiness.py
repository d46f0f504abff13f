"""
Receiving the requests of an ASGI application.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stickyd.affinity.client_identity import CLIENT, KNOWN, client_in
from stickyd.claim_desk import claims_of_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stickyd.confirmation import Confirmation
    from stickyd.serve.asgi.lifespan import AsgiApplication
    from stickyd.serve.stickiness import Exchange, Stickiness

    Send = Callable[[dict[str, Any]], Awaitable[None]]

#: The messages that carry a response's head.
_HEADS = frozenset(["http.response.start", "websocket.accept", "websocket.http.response.start"])


def sticky(application: AsgiApplication, stickiness: Stickiness) -> AsgiApplication:
    """
    Stand before an application, and do to its requests and responses what a
    :class:`stickyd.serve.stickiness.Exchange` does.
    """

    async def receive_first(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            claims: list[Confirmation] = []
            claims_of_response.set(claims)
            send = _responding(_begin(scope, stickiness), scope, claims, send)
        await application(scope, receive, send)

    return receive_first


def _begin(scope: Any, stickiness: Stickiness) -> Exchange:
    """
    Receive a request, and change its scope to what the application shall see.
    """
    client = scope["client"]
    scheme = scope["scheme"]
    websocket = scheme in ("ws", "wss")
    exchange = stickiness.begin(
        client[0] if client else "", scheme in ("https", "wss"), scope["headers"]
    )
    scope["headers"] = exchange.pairs
    scope[KNOWN] = exchange.names_our_slot
    if exchange.client is not None:
        scope["client"] = (exchange.client, 0)
    if websocket:
        scope["scheme"] = "wss" if exchange.secure else "ws"
    else:
        scope["scheme"] = "https" if exchange.secure else "http"
    return exchange


def _responding(exchange: Exchange, scope: Any, claims: list[Confirmation], send: Send) -> Send:
    async def respond(message: dict[str, Any]) -> None:
        if message["type"] in _HEADS:
            fields = exchange.respond(message.get("headers", ()), client_in(scope))
            message = {**message, "headers": fields}
            if exchange.met is not None and CLIENT in scope:
                scope[CLIENT].meet(exchange.met)
            if exchange.claiming is not None:
                await exchange.claiming.asFuture(asyncio.get_running_loop())
            for claimed in claims:
                await claimed
        await send(message)

    return respond
