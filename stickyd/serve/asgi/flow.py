"""
Whether an ASGI connection is read and written.
"""

from __future__ import annotations

import asyncio

from typing_extensions import override
from uvicorn.protocols.http.flow_control import FlowControl


class Flow(FlowControl):
    """
    What uvicorn's cycle asks for: it pauses reading while the application has enough of a body,
    and waits while the client takes nothing.  There is one reason more not to read: enough has
    come that must wait for something else.

    Its state stands in the class until it changes: most connections are read and written all the
    time.

    :ivar held: whether that is so.
    """

    read_paused = False
    write_paused = False
    held = False

    def __init__(self, transport: asyncio.Transport) -> None:
        """
        Let the transport read and write.
        """
        # uvicorn's would make an event.
        self._transport = transport

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

    @override
    def pause_writing(self) -> None:
        if not self.write_paused:
            self.write_paused = True
            self._is_writable_event = asyncio.Event()
