"""
Ids that the application mints: ``stickyd.claim()``.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from twisted.python.threadable import isInIOThread

from stickyd.confirmation import Confirmation
from stickyd.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    #: Claims a value; fires when the primary knows.
    Claiming = Callable[[bytes], Deferred[None] | None]


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

    def claim(self, value: bytes | str) -> Confirmation:
        """
        Claim a value; see :func:`stickyd.claim`.
        """
        if self._claiming is None or self._in_reactor is None:
            raise ApplicationError(
                "stickyd.claim() was called where no stickyd worker runs: it means something"
                " only in an application that stickyd serves"
            )
        claimed = Confirmation()
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
    def _claim(claiming: Claiming, value: bytes, claimed: Confirmation) -> None:
        told = claiming(value)
        if told is None:
            claimed.settle()
        else:
            # Failed is settled, too: the primary is gone, and so are we soon.
            told.addBoth(lambda _: claimed.settle())


#: The claims that are made while a request is handled, which its response waits for; of an
#: ASGI application, whose code runs in a context of its own for each request.
claims_of_response: ContextVar[list[Confirmation] | None] = ContextVar(
    "claims_of_response", default=None
)

#: The one of this process, as the reactor is: an application that is imported by name has
#: nothing of ours to hold on to.
desk = ClaimDesk()
