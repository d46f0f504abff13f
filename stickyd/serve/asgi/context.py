"""
What all connections of an ASGI application share.
"""

from __future__ import annotations

import logging
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from uvicorn.protocols.http.flow_control import service_unavailable

from stickyd.figures.request_counts import RequestCounts
from stickyd.serve.http.head import HTTP_1_1, FieldBlocks

if TYPE_CHECKING:
    import asyncio
    from contextvars import Context

    import uvicorn
    from uvicorn.server import ServerState

    from stickyd.serve.asgi.cycle import Cycle
    from stickyd.serve.http.context import Route
    from stickyd.serve.http.limits import HTTPLimits

    #: The server's and the client's host and port, if they have such, and the scheme.
    Party = tuple[tuple[str, int | None] | None, tuple[str, int] | None, str]

#: uvicorn's own, which its protocols log to.
logger = logging.getLogger("uvicorn.error")

#: For what the reason phrase says that goes with a refusal.
_REASONS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    505: b"HTTP Version Not Supported",
}


def party_of(transport: Any) -> Party:
    """
    Tell the two ends of a connection, as uvicorn does, but without a view of its socket.
    """
    server: Any
    client: Any
    if hasattr(transport, "ends"):
        server, client = transport.ends()
    else:
        server = transport.get_extra_info("sockname")
        client = transport.get_extra_info("peername")
    if isinstance(server, tuple):
        server = server[:2]
    elif isinstance(server, str):
        server = server, None
    else:
        server = None  # a name that is none of a file
    client = client[:2] if isinstance(client, tuple) else None
    return server, client, "https" if transport.get_extra_info("sslcontext") else "http"


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
    :ivar route: see :class:`stickyd.serve.http.context.HTTPContext`.
    :ivar counts: where each request is counted, at its beginning and at its end.
    :ivar is_logged: whether there is an access log.
    :ivar stock_fields: what stands in the head of every response, as text.
    :ivar blocks: how field blocks were parsed.
    :ivar constants: of all scopes: the root path, the same as bytes, the version of ASGI.
    :ivar variables: the context variables that requests begin with; nothing that another
        request has set is among them.
    """

    config: uvicorn.Config
    state: ServerState
    app_state: dict[str, Any]
    loop: asyncio.AbstractEventLoop
    limits: HTTPLimits
    route: Route | None = None
    counts: RequestCounts = field(default_factory=RequestCounts)
    is_logged: bool = False
    stock_fields: bytes = b""
    blocks: FieldBlocks = field(init=False)
    constants: tuple[str, bytes, str] = field(init=False)
    variables: Context = field(default_factory=copy_context)

    def __post_init__(self) -> None:
        """
        Make what is made of the limits and of the settings.
        """
        self.blocks = FieldBlocks(self.limits)
        root: str = self.config.root_path
        self.constants = root, root.encode("ascii"), self.config.asgi_version

    def scope_of(
        self,
        party: Party,
        line: tuple[bytes, bytes, bytes],
        target: bytes,
        pairs: list[tuple[bytes, bytes]],
    ) -> Any:
        """
        Tell an application of a request.

        :param line: method, target and version of its head.
        :param target: the target in origin form, or ``*``.
        :param pairs: the fields.
        """
        method, _, version = line
        server, client, scheme = party
        path, _, query = target.partition(b"#")[0].partition(b"?")
        text = path.decode("ascii")
        root, raw_root, asgi_version = self.constants
        return {
            "type": "http",
            "asgi": {"version": asgi_version, "spec_version": "2.3"},
            "http_version": "1.1" if version is HTTP_1_1 else "1.0",
            "server": server,
            "client": client,
            "scheme": scheme,
            "root_path": root,
            # A list of its own, as the application may change it.
            "headers": list(pairs),
            "state": self.app_state.copy(),
            "method": method.decode("ascii"),
            "path": root + (unquote(text) if "%" in text else text),
            "raw_path": raw_root + path,
            "query_string": query,
        }

    def run(self, cycle: Cycle) -> None:
        """
        Have the application called, or say that there is too much to do.
        """
        state, limit = self.state, self.config.limit_concurrency
        application: Any = self.config.loaded_app
        if limit is not None and (len(state.connections) >= limit or len(state.tasks) >= limit):
            application = service_unavailable
            logger.warning("Exceeded concurrency limit.")
        task = self.variables.run(self.loop.create_task, cycle.run_asgi(application))
        cycle.task = task
        state.tasks.add(task)
        task.add_done_callback(state.tasks.discard)

    def refusal(self, status: int) -> bytes:
        """
        Make the whole response to a request that is not even one.
        """
        reason = _REASONS[status]
        lines = [b"HTTP/1.1 %d %b" % (status, reason)]
        lines += [b"%b: %b" % pair for pair in self.state.default_headers]
        text = b"%d %b\n" % (status, reason)
        lines += [
            b"connection: close",
            b"content-type: text/plain",
            b"content-length: %d" % len(text),
        ]
        return b"\r\n".join([*lines, b"", text])
