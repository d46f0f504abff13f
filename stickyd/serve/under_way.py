"""
What a connection is doing, as it is told to operators who ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: The longest path that is told, in bytes.
LONGEST_PATH_BYTES = 200

REQUEST: Final = "request"
WEBSOCKET: Final = "websocket"
CONNECTION: Final = "connection"


@dataclass(frozen=True)
class UnderWay:
    """
    One thing that is under way on a connection.

    :ivar kind: :data:`REQUEST`, :data:`WEBSOCKET`, or :data:`CONNECTION` of another protocol.
    :ivar begun_ns: when it began, by :func:`time.perf_counter_ns`; 0 if that is not known.
    :ivar method: of the request.
    :ivar target: of the request, as it came.
    :ivar status: of the response, if that has begun; else 0.
    """

    kind: str
    begun_ns: int
    method: bytes = b""
    target: bytes = b""
    status: int = 0

    @property
    def path(self) -> str:
        """
        The path of the target: a query may have somebody's token in it.
        """
        path = self.target.partition(b"?")[0]
        shown = path[:LONGEST_PATH_BYTES].decode("utf-8", "backslashreplace")
        text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)
        return f"{text}…" if len(path) > LONGEST_PATH_BYTES else text


def request_under_way(begun_ns: int, message: tuple[bytes, ...], request: object) -> UnderWay:
    """
    A request of HTTP.

    :param message: its method and its target, and what follows them.
    :param request: the one that is answered.
    """
    begun = getattr(request, "startedWriting", False)
    status = getattr(request, "code", 0) if begun else 0
    return UnderWay(REQUEST, begun_ns, message[0], message[1], status)


def nothing_under_way(connection: object) -> list[UnderWay]:
    """
    Of a connection that has no request of its own.
    """
    return []
