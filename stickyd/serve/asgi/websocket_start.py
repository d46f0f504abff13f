"""
How an ASGI connection becomes a WebSocket: one of uvicorn's protocols gets its bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.affinity.client_identity import HANDOFF, IDENTITY, note_client
from stickyd.serve.asgi.handshake_count import CountedHandshake

if TYPE_CHECKING:
    from stickyd.handoff.frame import Handoff
    from stickyd.serve.asgi.context import AsgiContext


def start_websocket(
    context: AsgiContext,
    transport: Any,
    target: bytes,
    pairs: list[tuple[bytes, bytes]],
    rest: bytes,
    handoff: Handoff,
) -> None:
    """
    Have the protocol that the settings name answer a handshake, and all that follows.

    :param transport: the connection's, which is told of its new protocol.
    :param target: the target in origin form.
    :param pairs: the fields.
    :param rest: what was read behind the head.
    :param handoff: the handoff that brought the connection.
    """
    make: Any = context.config.ws_protocol_class
    websocket = make(config=context.config, server_state=context.state, app_state=context.app_state)
    transport.set_protocol(websocket)
    transport.answers_whole = True
    begin = getattr(websocket, "begin", None)
    counted: Any = CountedHandshake(
        transport, context.counts, lambda transport: setattr(websocket, "transport", transport)
    )
    if begin is not None:
        begin(counted, target, pairs)
    else:
        websocket.connection_made(counted)
        head = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
        websocket.data_received(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, head))
    scope = getattr(websocket, "scope", None)
    if scope is not None:
        # The application is called in the next turn of the loop.
        scope[IDENTITY] = handoff.identity
        if context.is_logged:
            scope[HANDOFF] = handoff
        note_client(scope, handoff)
    if rest and not transport.is_closing():
        websocket.data_received(rest)
