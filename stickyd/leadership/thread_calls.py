"""
What a subscriber does at the beginning and at the end of leadership, in threads of its own.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that a beginning may take until the end is called all the same: it may be one that
#: works as long as it leads, and waits to be told.
BEGIN_SECONDS = 1.0


class ThreadCalls:
    """
    Calls functions that may block, the end in another thread than the beginning.
    """

    _log = Logger()

    def __init__(self, on_begin: Callable[[], object], on_end: Callable[[], object] | None) -> None:
        self._on_begin = on_begin
        self._on_end = on_end
        self._beginning: threading.Thread | None = None

    def begin(self) -> None:
        """
        Have the beginning done; from any thread.
        """
        self._beginning = self._started(self._call, self._on_begin, "beginning")

    def end(self) -> Future[None]:
        """
        Have the end done.

        :return: done when both have returned; never fails.
        """
        over: Future[None] = Future()
        beginning, self._beginning = self._beginning, None
        self._started(self._end, beginning, over)
        return over

    def _started(self, call: Callable[..., object], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=call, args=arguments, name="leader", daemon=True)
        thread.start()
        return thread

    def _end(self, beginning: threading.Thread | None, over: Future[None]) -> None:
        if beginning is not None:
            beginning.join(BEGIN_SECONDS)
        if self._on_end is not None:
            self._call(self._on_end, "end")
        if beginning is not None:
            beginning.join()
        over.set_result(None)

    def _call(self, call: Callable[[], object], what: str) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 (the application's own code)
            self._log.failure("The {what} of leadership failed", event="leader.failed", what=what)
