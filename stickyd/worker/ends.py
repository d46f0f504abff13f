"""
What the primary and this worker share: descriptors that it was started with.
"""

from __future__ import annotations

import mmap
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field

from stickyd.control.commands import FIGURES_DESCRIPTOR, HANDOFF_DESCRIPTOR
from stickyd.figures.page import PAGE_BYTES
from stickyd.figures.request_counts import RequestCounts


@dataclass(frozen=True)
class Ends:
    """
    Our ends, but that of the control channel.

    :ivar handoffs: of the handoff channel, non-blocking.
    :ivar counts: writes to the page of figures, which the primary reads.
    """

    handoffs: socket.socket
    counts: RequestCounts = field(default_factory=RequestCounts)

    @classmethod
    def inherited(cls) -> Ends:
        """
        Take what the primary has given to this process; the descriptors are ours.
        """
        handoffs = socket.socket(fileno=HANDOFF_DESCRIPTOR)
        handoffs.setblocking(False)
        return cls(handoffs, RequestCounts(_map(FIGURES_DESCRIPTOR)))


def _map(descriptor: int) -> memoryview | None:
    """
    Map the page of figures.

    :param descriptor: closed here.
    :return: None if there is none: a process that somebody else has started.
    """
    try:
        page = mmap.mmap(descriptor, PAGE_BYTES)
    except (OSError, ValueError):
        return None
    with suppress(OSError):
        os.close(descriptor)
    return memoryview(page).cast("Q")
