"""
Ids that the application mints: ``stickyd.claim()``.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.threadable import isInIOThread

from stickyd.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    #: Claims a value; fires when the primary knows.
    Claiming = Callable[[bytes], Deferred[None] | None]


class Claimed:
    """
    A claim on its way.  Await it in a coroutine of asyncio's or Twisted's, call
    :meth:`wait` in a thread, or add callbacks to :meth:`deferred` in the reactor's thread;
    then the client's next connection with the id reaches this worker.
    """

    def __init__(self) -> None:
        self._future: Future[None] = Future()

    def wait(self, seconds: float | None = 5.0) -> None:
        """
        Wait in a thread that is not the reactor's, such as a WSGI application's.

        :raises TimeoutError: if the primary has not answered by then (before Python 3.11
            :exc:`concurrent.futures.TimeoutError`).
        :raises RuntimeError: in the reactor's thread, where the answer could not come in.
        """
        if not self._future.done() and isInIOThread():
            raise RuntimeError("wait() would stop the worker: await the claim instead")
        self._future.result(seconds)

    def deferred(self) -> Deferred[None]:
        """
        Give a Deferred that fires when the primary knows.
        """
        waiting: Deferred[None] = Deferred()
        self._future.add_done_callback(lambda _: waiting.callback(None))
        return waiting

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        if task is None:
            return self.deferred().__await__()
        return asyncio.wrap_future(self._future).__await__()

    def settle(self, result: object = None) -> None:
        """
        Called when the primary has answered.
        """
        self._future.set_result(None)


class ClaimDesk:
    """
    Where a process's claims go.
    """

    def __init__(self) -> None:
        self._claiming: Claiming | None = None
        self._in_reactor: Callable[..., object] | None = None
        self._is_wanted = False

    def open(
        self, in_reactor: Callable[..., object], claiming: Claiming, is_wanted: bool = True
    ) -> None:
        """
        Called in a worker when it begins to serve.

        :param in_reactor: the reactor's ``callFromThread``.
        :param claiming: claims a value; called in the reactor's thread.
        :param is_wanted: whether ``--affinity`` says where clients send such ids.
        """
        self._in_reactor, self._claiming = in_reactor, claiming
        self._is_wanted = is_wanted

    @property
    def is_wanted(self) -> bool:
        """
        Whether it makes sense to claim anything here.
        """
        return self._is_wanted

    def claim(self, value: bytes | str) -> Claimed:
        """
        Claim a value; see :func:`stickyd.claim`.
        """
        if self._claiming is None or self._in_reactor is None:
            raise ApplicationError(
                "stickyd.claim() was called where no stickyd worker runs: it means something"
                " only in an application that stickyd serves"
            )
        claimed = Claimed()
        waiting = claims_of_response.get()
        if waiting is not None:
            waiting.append(claimed)
        text = value.encode() if isinstance(value, str) else bytes(value)
        if isInIOThread():
            self._claim(self._claiming, text, claimed)
        else:
            self._in_reactor(self._claim, self._claiming, text, claimed)
        return claimed

    @staticmethod
    def _claim(claiming: Claiming, value: bytes, claimed: Claimed) -> None:
        told = claiming(value)
        if told is None:
            claimed.settle()
        else:
            told.addBoth(claimed.settle)


#: The claims that are made while a request is handled, which its response waits for; of an
#: ASGI application, whose code runs in a context of its own for each request.
claims_of_response: ContextVar[list[Claimed] | None] = ContextVar(
    "claims_of_response", default=None
)

#: The one of this process, as the reactor is: an application that is imported by name has
#: nothing of ours to hold on to.
desk = ClaimDesk()
