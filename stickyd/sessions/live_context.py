"""
What the sessions in use of a process have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from stickyd.sessions.interfaces import ISessionStore
    from stickyd.sessions.record import EndReason


@dataclass(frozen=True)
class LiveContext:
    """
    One for all, as there may be a hundred thousand of them.

    :ivar store: where the records are.
    :ivar clock: gives the time, seconds since 1970.
    :ivar max_data: the most bytes that the data of one session may have.
    :ivar gone: called with a session and the reason when it is no longer here.
    :ivar renamed: called with the old and the new id when a session gets another one, and for
        how many seconds the old one still finds it.
    :ivar nonce: makes the name of a write.
    :ivar stored: called with a session that the store has as it is here now.
    :ivar of_client: called with a client, and whether it uses a session or its session was deleted.
    """

    store: ISessionStore
    clock: IReactorTime
    max_data: int
    gone: Callable[[Any, EndReason], object]
    renamed: Callable[[bytes, bytes, float], object]
    nonce: Callable[[], bytes]
    stored: Callable[[Any], object]
    of_client: Callable[[bytes, bool], object]
