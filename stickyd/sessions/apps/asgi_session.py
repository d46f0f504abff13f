"""
The session of an ASGI application's request.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stickyd.errors import SessionConflict, SessionError, StoreAway
from stickyd.sessions.apps.tracked import TrackedData
from stickyd.sessions.apps.unit_of_work import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stickyd.sessions.apps.place import SessionPlace
    from stickyd.sessions.apps.unit_of_work import UnitOfWork

#: How often a transaction is tried at most.
MOST_TRANSACTIONS = 50

#: How long it waits, at most, until it is tried again: a bit more each time.
PAUSE_SECONDS = 0.002
LONGEST_PAUSE_SECONDS = 0.1


class AsgiSession(TrackedData):
    """
    What ``scope["session"]`` is: a dict that is saved by itself before the response begins, at
    its end, and when a WebSocket is closed.

    :ivar new: whether there was none when the request came.
    :ivar failure: why it could not be read or written, last.
    """

    failure: Exception | None = None

    def __init__(self, place: SessionPlace, unit: UnitOfWork, text: bytes = EMPTY) -> None:
        """
        :param place: where ``unit`` is.
        :param text: what it has loaded.
        """
        super().__init__(text)
        self._place = place
        self.new = unit.uid is None
        self._unit = unit
        self._new_id = False
        self._flushed = False
        self._answered = False

    @property
    def id(self) -> str | None:
        """
        Its id, or :obj:`None` while it is not saved yet.  It is as good as a password.
        """
        return None if self._unit.uid is None else self._unit.uid.decode("ascii")

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

    async def save(self) -> None:
        """
        Write what has changed, if anything has.

        :raise stickyd.errors.SessionConflict: somebody else has changed meanwhile what was
            read or written here.
        :raise stickyd.errors.NoSuchSession: somebody else has ended the session meanwhile.
        :raise stickyd.errors.NotCarriable: a value has become something else than plain data.
        :raise stickyd.errors.SessionTooLarge: there is too much in it.
        :raise stickyd.errors.StoreAway: the store cannot be reached.
        """
        with self._noting_failures():
            await self._save()

    async def _save(self) -> None:
        unit, ask = self._unit, self._place.ask
        if self._flushed or (self.void and self.unsaved):
            if unit.uid is not None:
                await ask(unit.end)
            # What stands there now is new: it cannot conflict with what is gone.
            rest = dict(self)
            self.settled(EMPTY)
            self._flushed = self._new_id = False
            self.update(rest)
        if self._new_id or self.unsaved or unit.unsaved:
            self.settled(await ask(unit.commit, self, self._new_id))
            self._new_id = False

    async def reload(self) -> None:
        """
        See what others have done to the session since it was loaded or saved.

        :raise RuntimeError: there are changes that are not saved.
        :raise stickyd.errors.NoSuchSession: somebody has ended the session.
        :raise stickyd.errors.StoreAway: the store cannot be reached.
        """
        if self.unsaved:
            raise RuntimeError("the session has changes that are not saved: save them before")
        with self._noting_failures():
            self.settled(await self._place.ask(self._unit.fresh))

    async def transact(self, function: Callable[[TrackedData], Any]) -> Any:
        """
        Change the session by a function, whatever others do at the same time: it is called
        again, with the session as it stands then, until what it has done could be saved.  What
        was changed before is saved first.

        :param function: gets a dict, and changes it; may be a coroutine function.  It must
            change nothing else.
        :return: what it returns.
        :raise stickyd.errors.SessionConflict: it was called 50 times in vain.
        :raise Exception: as :meth:`save`, and what ``function`` raises: nothing was changed.
        """
        if self._flushed or self._new_id or self.unsaved:
            await self.save()
        with self._noting_failures():
            for attempt in range(MOST_TRANSACTIONS):
                trial = TrackedData(await self._place.ask(self._unit.fresh))
                result = function(trial)
                if inspect.isawaitable(result):
                    result = await result
                keys = trial.changes()
                if not keys:
                    return result
                try:
                    text = await self._place.ask(self._unit.commit, trial)
                except SessionConflict:
                    await asyncio.sleep(pause_seconds(attempt))
                    continue
                self.mark_modified()
                self.absorb(text, keys)
                return result
            raise SessionConflict(
                f"others were faster {MOST_TRANSACTIONS} times in a row, while a transaction tried"
                " to change the session"
            )

    @contextmanager
    def _noting_failures(self) -> Iterator[None]:
        try:
            yield
        except (SessionError, StoreAway) as problem:
            self.failure = problem
            raise

    def answered(self) -> None:
        """
        Note that the response has begun.
        """
        self._answered = True


def pause_seconds(attempt: int) -> float:
    """
    Tell how long to wait after an attempt that others were faster than.

    :param attempt: how many there were before.
    """
    longest = min(PAUSE_SECONDS * (attempt + 1), LONGEST_PAUSE_SECONDS)
    return random.uniform(0, longest)  # noqa: S311 - so that two do not meet again
