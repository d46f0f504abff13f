"""
The ids of Socket.IO's sessions, which bring their clients back.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import stickyd
from stickyd.claim_desk import desk

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Whether an id that is made names no session: python-socketio makes those of its namespaces by
#: the same function.
_names_no_session: ContextVar[bool] = ContextVar("names_no_session", default=False)


@contextmanager
def ids_of_namespaces() -> Iterator[None]:
    """
    Make ids meanwhile that no client sends by itself.
    """
    token = _names_no_session.set(True)
    try:
        yield
    finally:
        _names_no_session.reset(token)


class SessionIds:
    """
    Makes ids for ``--affinity minted:query:sid``, and claims them for ``learn:query:sid``.
    """

    def __init__(self, engine: Any, waits: bool) -> None:
        """
        :param engine: python-engineio's server.
        :param waits: whether it is called in a thread, which can wait for the claim; else the
            response does.
        """
        self._generate_id = engine.generate_id
        self._waits = waits

    def __call__(self) -> str:
        if _names_no_session.get():
            made: str = self._generate_id()
            return made
        made = stickyd.mint()
        if desk.is_wanted:
            claimed = stickyd.claim(made)
            if self._waits:
                claimed.wait()
        return made
