"""
A WebSocket of an ASGI application, as its host sees it.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from stickyd.affinity.client_identity import client_in
from stickyd.serve.served_connection import IServedConnection
from stickyd.serve.under_way import WEBSOCKET, UnderWay


@implementer(IServedConnection)
class ServedWebSocket:
    """
    One of uvicorn's, whichever of its protocols speaks it.

    :ivar handoff: nothing: nobody else could go on with it.
    """

    _log = Logger()

    descriptors = 1
    handoff = None
    busy = False
    unanswered: tuple[Any, ...] = ()

    _goodbye_said = False

    def __init__(self, protocol: Any) -> None:
        """
        :param protocol: uvicorn's.
        """
        self._protocol = protocol
        self._begun_ns = perf_counter_ns()

    def under_way(self) -> list[UnderWay]:
        """
        Itself.
        """
        path = (getattr(self._protocol, "scope", None) or {}).get("raw_path") or b""
        return [UnderWay(WEBSOCKET, self._begun_ns, b"GET", path, 101)]

    @property
    def client(self) -> bytes | None:
        """
        What tells its client from the others of this worker, if anything does.
        """
        scope = getattr(self._protocol, "scope", None)
        return None if scope is None else client_in(scope)

    def give_away(self, goes: object, take: object) -> None:
        """
        It cannot be given away.
        """

    def drain(self) -> None:
        """
        It goes on until one side ends it.
        """

    def say_goodbye(self, code: int) -> bool:
        """
        Close it with a reason: uvicorn's, which is 1012, *service restart*.
        """
        if self._goodbye_said:
            return False
        self._goodbye_said = True
        try:
            self._protocol.shutdown()
        except Exception:  # noqa: BLE001 - one connection's state is not the others'
            self._log.failure(
                "A WebSocket could not be closed in good order.", event="websocket.not-closed"
            )
            return False
        return True

    def end_streams(self) -> None:
        """
        It was told, and has a moment to end.
        """

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """
        Cut it off.
        """
        self._protocol.transport.abort()
