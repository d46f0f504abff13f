"""
The session of a request, whichever way it is saved.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stickyd.errors import SessionConflict, SessionError, StoreAway
from stickyd.sessions.apps.tracked import TrackedData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stickyd.sessions.apps.place import SessionPlace
    from stickyd.sessions.apps.unit_of_work import UnitOfWork

#: How often a transaction is tried at most.
MOST_TRANSACTIONS = 50

#: How long it waits, at most, until it is tried again: a bit more each time.
PAUSE_SECONDS = 0.002
LONGEST_PAUSE_SECONDS = 0.1


class AppSession(TrackedData):
    """
    A dict that knows whose session it is.

    :ivar failure: why it could not be read or written, last.
    """

    failure: Exception | None = None
    _new_id = False
    _flushed = False
    _answered = False

    def __init__(
        self,
        place: SessionPlace,
        unit: UnitOfWork,
        text: bytes = b"{}",
        load: Callable[[], bytes] | None = None,
    ) -> None:
        """
        :param place: where ``unit`` is.
        :param text: what it has loaded; or ``load`` has it loaded, at the first use.
        """
        super().__init__(text, load)
        self._place = place
        self._unit = unit

    @property
    def id(self) -> str | None:
        """
        Its id, or :obj:`None` while it is not saved yet.  It is as good as a password.
        """
        self._use()
        return None if self._unit.uid is None else self._unit.uid.decode("ascii")

    @property
    def new(self) -> bool:
        """
        Whether there was none when the request came.
        """
        self._use()
        return self._unit.sent is None

    def regenerate(self) -> None:
        """
        Give the session a new id when it is saved next, and its client the new cookie: to be
        done when the client logs in.

        :raise RuntimeError: the response has begun, so that the cookie cannot be sent.
        """
        if self._answered:
            raise RuntimeError("a session cannot be given a new id once the response has begun")
        self.mark_modified()
        self._new_id = True

    def flush(self) -> None:
        """
        End the session for good, whatever others do to it, when it is saved next: to be done
        when the client logs out.  What is put in from now on is in a new session.
        """
        self.clear()
        self._flushed = True

    def answered(self) -> None:
        """
        Note that the response has begun.
        """
        self._answered = True

    @property
    def pending(self) -> bool:
        """
        Whether there is something to be saved.

        :raise stickyd.errors.NotCarriable: a value has become something else than plain data.
        """
        if not self.loaded:
            return self._unit.unsaved
        return self._flushed or self._new_id or self._unit.unsaved or self.unsaved

    def saved(self, text: bytes | None) -> None:
        """
        Note that all of it was saved.

        :param text: what :meth:`stickyd.sessions.apps.unit_of_work.UnitOfWork.save` has
            given.
        """
        self._flushed = self._new_id = False
        if text is not None:
            self.settled(text)

    @contextmanager
    def noting_failures(self) -> Iterator[None]:
        """
        Remember what goes wrong: nobody is to blame for some of it, and a framework that gets
        it as an error of the application's would not know.
        """
        try:
            yield
        except (SessionError, StoreAway) as problem:
            self.failure = problem
            raise


def pause_seconds(attempt: int) -> float:
    """
    Tell how long to wait after an attempt that others were faster than.

    :param attempt: how many there were before.
    """
    longest = min(PAUSE_SECONDS * (attempt + 1), LONGEST_PAUSE_SECONDS)
    return random.uniform(0, longest)  # noqa: S311 - so that two do not meet again


def too_often() -> SessionConflict:
    """
    Say that a transaction was tried in vain.
    """
    return SessionConflict(
        f"others were faster {MOST_TRANSACTIONS} times in a row, while a transaction tried to"
        " change the session"
    )
