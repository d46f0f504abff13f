"""
What an operator decides about the host of a WSGI application.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def _nobody() -> None:
    """
    Ask nobody.
    """


@dataclass(frozen=True)
class WsgiOptions:
    """
    The options of :class:`stickyd.serve.wsgi.host.WsgiHost`.

    :ivar threads: how many requests the application handles at a time.
    :ivar queue_limit: how many more may wait for a thread; past it 503.
    :ivar timeout_seconds: how long the application may take to begin an answer until it is
        taken for stuck; 0 is for ever.
    :ivar websockets: how many WebSockets there may be, each with a thread of its own; past it
        503.
    :ivar replace: called when too many threads are stuck, for another worker to take our place.
    :ivar root_path: the prefix that a proxy in front takes off the path.
    """

    threads: int = 200
    queue_limit: int = 1024
    root_path: str = ""
    timeout_seconds: float = 300.0
    websockets: int = 1000
    replace: Callable[[], object] = _nobody
