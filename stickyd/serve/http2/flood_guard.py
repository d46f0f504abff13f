"""
Clients that cost much and ask little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.net.allowance import Allowance

if TYPE_CHECKING:
    from collections.abc import Callable

#: How many streams may be reset at once, and in each second on average.
RESETS = 200
RESETS_A_SECOND = 33.0

#: The same of frames that do nothing: PINGs, settings, priorities, windows that hardly open,
#: DATA without data.  What does something allows some more.
IDLE_FRAMES = 1000
IDLE_FRAMES_A_SECOND = 100.0
IDLE_FRAMES_A_REQUEST = 10
IDLE_FRAMES_A_DATA_FRAME = 4


class FloodGuard:
    """
    Counts what one client does for no other end than our time (CVE-2023-44487,
    CVE-2025-8671).
    """

    def __init__(self, now: Callable[[], float]) -> None:
        """
        :param now: gives the time in seconds.
        """
        self._resets = Allowance(now, RESETS_A_SECOND, RESETS)
        self._idle_frames = Allowance(now, IDLE_FRAMES_A_SECOND, IDLE_FRAMES)

    def take_reset(self) -> bool:
        """
        Count a stream that was reset, by the client or because of it.

        :return: :obj:`False` if there are too many.
        """
        return self._resets.take()

    def take_idle_frame(self) -> bool:
        """
        Count a frame that does nothing by itself.

        :return: :obj:`False` if there are too many.
        """
        return self._idle_frames.take()

    def note_request(self) -> None:
        """
        Allow the frames that go with a request.
        """
        self._idle_frames.give(IDLE_FRAMES_A_REQUEST)

    def note_data(self) -> None:
        """
        Allow the frames that go with a frame of data, in either direction.
        """
        self._idle_frames.give(IDLE_FRAMES_A_DATA_FRAME)
