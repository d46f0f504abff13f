"""
Clients that an application is done with: ``stickyd.release_client()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.python.threadable import isInIOThread

from stickyd.affinity.client_identity import client_in
from stickyd.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Where frameworks have a scope or an environ: Starlette, FastAPI and ASGI Django; Flask;
#: WSGI Django.
_INSIDE = ("scope", "environ", "META")


def client_of(request: Any) -> bytes | None:
    """
    What tells the client of a request from all others of its worker.

    :param request: as :func:`stickyd.release_client` takes it.
    :return: :obj:`None` if nothing does: no worker keeps its clients, or this client is a newcomer
        that is not named yet.
    :raises ApplicationError: if it is no request.
    """
    if isinstance(request, Mapping):
        return client_in(request)
    for name in _INSIDE:
        inside = getattr(request, name, None)
        if isinstance(inside, Mapping):
            return client_in(inside)
    if hasattr(request, "channel"):  # twisted.web's; it has none any more when it is over
        handoff = getattr(request.channel, "handoff", None)
        return None if handoff is None else handoff.client
    raise ApplicationError(
        "stickyd.release_client() takes the request that is being handled (of Starlette, FastAPI,"
        f" Flask, Django or twisted.web), an ASGI scope or a WSGI environ, not {request!r:.100}"
    )


class ReleaseDesk:
    """
    Where a process's releases go.
    """

    def __init__(self) -> None:
        self._release: Callable[[bytes], object] | None = None
        self._in_reactor: Callable[..., object] | None = None

    def open(self, in_reactor: Callable[..., object], release: Callable[[bytes], object]) -> None:
        """
        Called in a worker when it begins to serve.

        :param in_reactor: the reactor's ``callFromThread``.
        :param release: has a client known no longer; called in the reactor's thread.
        """
        self._in_reactor, self._release = in_reactor, release

    def release(self, request: Any) -> None:
        """
        Release a client; see :func:`stickyd.release_client`.
        """
        if self._release is None or self._in_reactor is None:
            raise ApplicationError(
                "stickyd.release_client() was called where no stickyd worker runs: it means"
                " something only in an application that stickyd serves"
            )
        client = client_of(request)
        if client is None:
            return
        if isInIOThread():
            self._release(client)
        else:
            self._in_reactor(self._release, client)


#: The one of this process, as the reactor is.
release_desk = ReleaseDesk()
