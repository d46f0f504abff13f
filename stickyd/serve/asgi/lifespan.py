"""
The application's lifespan: the ASGI lifespan protocol, version 2.0.

uvicorn has an implementation too, but its ``startup`` tells only that it failed; what an
operator needs is why.
"""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from stickyd.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    AsgiApplication = Callable[[Any, Receive, Send], Awaitable[None]]


class _Phase(enum.Enum):
    CALLED = "was not asked for the startup"
    STARTING = "is starting"
    REFUSED = "has said that its startup failed"
    SERVING = "serves"
    STOPPING = "is shutting down"
    STOPPED = "has shut down"


class Lifespan:
    """
    One call of the application that lasts as long as the worker serves.

    :ivar state: what the application puts there while it starts; every request gets a
        shallow copy.
    """

    _log = Logger()

    def __init__(
        self, application: AsgiApplication, loop: asyncio.AbstractEventLoop, name: str, mode: str
    ) -> None:
        """
        :param name: the application, for errors: its option and its value.
        :param mode: ``auto`` takes an application that raises for one without lifespan, as
            the specification says; ``on`` for one that has failed; ``off`` never asks.
        """
        self.state: dict[str, Any] = {}
        self._application = application
        self._loop = loop
        self._name = name
        self._mode = mode
        self._phase = _Phase.CALLED
        self._refusal: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()

    async def startup(self) -> None:
        """
        Have the application start.

        :raises ApplicationError: if it says that it failed, with its own reason.
        """
        if self._mode == "off":
            return
        # Kept, as the loop itself holds tasks only weakly.
        self._task = self._loop.create_task(self._run())
        await self._started.wait()
        if self._refusal is not None:
            raise ApplicationError(f"{self._name}: its startup failed: {self._refusal}")

    async def shutdown(self) -> None:
        """
        Have the application shut down.  What it raises is logged.
        """
        if self._phase is _Phase.SERVING:
            self._phase = _Phase.STOPPING
            self._stopping.set()
            await self._stopped.wait()

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._application(scope, self._receive, self._send)
        except BaseException as problem:  # noqa: BLE001 - SystemExit would end the loop
            self._raised(problem)
        finally:
            self._started.set()
            self._stopped.set()

    async def _receive(self) -> Message:
        if self._phase is _Phase.CALLED:
            self._phase = _Phase.STARTING
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        self._stopping.clear()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind, phase = message["type"], self._phase
        if phase in (_Phase.CALLED, _Phase.STARTING) and kind == "lifespan.startup.complete":
            self._phase = _Phase.SERVING
            self._started.set()
        elif phase in (_Phase.CALLED, _Phase.STARTING) and kind == "lifespan.startup.failed":
            self._phase = _Phase.REFUSED
            self._refuse(message.get("message") or "it gave no reason")
        elif phase is _Phase.STOPPING and kind == "lifespan.shutdown.complete":
            self._phase = _Phase.STOPPED
            self._stopped.set()
        elif phase is _Phase.STOPPING and kind == "lifespan.shutdown.failed":
            self._phase = _Phase.STOPPED
            self._log.error(
                "{name}: its shutdown failed: {why}",
                event="lifespan.shutdown-failed",
                name=self._name,
                why=message.get("message") or "it gave no reason",
            )
            self._stopped.set()
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}: the application {phase.value}")

    def _refuse(self, reason: str) -> None:
        """
        Starlette gives a whole traceback as its reason; an error has one line, its last.
        """
        lines = reason.strip().splitlines() or [reason]
        if len(lines) > 1:
            self._log.error(
                "{name}: its startup failed: {why}",
                event="lifespan.startup-failed",
                name=self._name,
                why=reason,
            )
        self._refusal = lines[-1].strip()
        self._started.set()

    def _raised(self, problem: BaseException) -> None:
        said = f"{type(problem).__name__}: {problem}"
        if self._phase is _Phase.REFUSED:
            return  # It raises what it has told: Starlette does.
        if self._phase in (_Phase.SERVING, _Phase.STOPPING, _Phase.STOPPED):
            self._log.failure(
                "{name}: its lifespan ended with an error", event="lifespan.ended", name=self._name
            )
        elif self._mode == "on" or isinstance(problem, SystemExit):
            self._log.failure(
                "{name}: its startup failed", event="lifespan.startup-failed", name=self._name
            )
            self._refusal = said
        elif self._phase is _Phase.STARTING:
            # It took the event, so it probably knows lifespan and failed; but the
            # specification says to go on.
            self._log.failure(
                "{name}: it raised while starting, which ASGI takes for not supporting lifespan"
                " (--lifespan on makes it an error)",
                event="lifespan.none",
                name=self._name,
            )
        else:
            self._log.info(
                "{name} has no lifespan ({said})", event="lifespan.none", name=self._name, said=said
            )
