"""
What a worker does at the primary's word while it serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from stickyd.control.commands import (
    Accept,
    ControlProtocol,
    Occupy,
    Place,
    Release,
    Sessions,
    Verify,
)

if TYPE_CHECKING:
    from stickyd.worker.server import Serving


class Follower(ControlProtocol):
    """
    The worker's end of the control channel.

    :ivar serving: what does it, once the primary has asked for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.serving: Serving | None = None

    @Occupy.responder
    def occupy(self, slot: int) -> dict[str, object]:
        if self.serving is not None:
            self.serving.retirement.slot = slot
        return {}

    @Place.responder
    def place(self, slots: int, standing: list[int]) -> dict[str, object]:
        if self.serving is not None:
            self.serving.places.update(slots, standing)
        return {}

    @Verify.responder
    def verify(self, secrets: list[bytes]) -> dict[str, object]:
        if self.serving is not None:
            self.serving.verify_also(secrets)
        return {}

    @Sessions.responder
    def sessions(self, slot: int, chunk: bytes) -> Deferred[dict[str, object]]:
        assert self.serving is not None
        return self.serving.retirement.take_in(chunk).addCallback(lambda _: {})

    @Release.responder
    def release(self, slots: int, standing: list[int]) -> Deferred[dict[str, object]]:
        assert self.serving is not None
        if slots < 0:
            self.serving.stay()
            return succeed({})
        return self.serving.release(slots, standing).addCallback(lambda _: {})

    @Accept.responder
    def accept(self) -> dict[str, object]:
        assert self.serving is not None
        self.serving.listening.accept()
        return {}
