"""
What an operator decides about the host of a WSGI application.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WsgiOptions:
    """
    The options of :class:`stickyd.serve.wsgi.host.WsgiHost`.

    :ivar threads: how many requests the application handles at a time.
    :ivar queue_limit: how many more may wait for a thread; past it 503.
    :ivar root_path: the prefix that a proxy in front takes off the path.
    """

    threads: int = 64
    queue_limit: int = 1024
    root_path: str = ""
