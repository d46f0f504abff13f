"""
Whether an ASGI connection is read and written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override
from uvicorn.protocols.http.flow_control import FlowControl

if TYPE_CHECKING:
    import asyncio


class Flow(FlowControl):
    """
    uvicorn's, which pauses reading while the application has enough of a body, and one
    reason more not to read: enough has come that must wait for something else.

    :ivar held: whether that is so.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.held = False

    def hold(self) -> None:
        """
        Read no more, whatever the application would like.
        """
        if not self.held:
            self.held = True
            self._transport.pause_reading()

    def unhold(self) -> None:
        """
        Read again, unless the application has enough.
        """
        if self.held:
            self.held = False
            if not self.read_paused:
                self._transport.resume_reading()

    @override
    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            if not self.held:
                self._transport.resume_reading()
