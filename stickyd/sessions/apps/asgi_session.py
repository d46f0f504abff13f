"""
The session of an ASGI application's request.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from stickyd.errors import SessionConflict
from stickyd.sessions.apps.app_session import (
    MOST_TRANSACTIONS,
    AppSession,
    pause_seconds,
    too_often,
)
from stickyd.sessions.apps.tracked import TrackedData

if TYPE_CHECKING:
    from collections.abc import Callable


class AsgiSession(AppSession):
    """
    What ``scope["session"]`` is: a dict that is saved by itself before the response begins, at
    its end, and when a WebSocket is closed.
    """

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
        if not self.pending:
            return
        with self.noting_failures():
            self.saved(await self._place.ask(self._unit.save, self, self._flushed, self._new_id))
        await self._let_go()

    async def reload(self) -> None:
        """
        See what others have done to the session since it was loaded or saved.

        :raise RuntimeError: there are changes that are not saved.
        :raise stickyd.errors.NoSuchSession: somebody has ended the session.
        :raise stickyd.errors.StoreAway: the store cannot be reached.
        """
        if self.pending:
            raise RuntimeError("the session has changes that are not saved: save them before")
        with self.noting_failures():
            self.settled(await self._place.ask(self._unit.fresh))
        await self._let_go()

    async def _let_go(self) -> None:
        """
        Let the session be carried to another worker, once the response has begun: it may last
        for hours.
        """
        if self._answered and self._unit.holds:
            await self._place.ask(self._unit.let_go)

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
        await self.save()
        try:
            with self.noting_failures():
                return await self._try(function)
        finally:
            await self._let_go()

    async def _try(self, function: Callable[[TrackedData], Any]) -> Any:
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
        raise too_often()
