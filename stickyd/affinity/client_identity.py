"""
Clients that belong to a slot by name, not by their key: where they stay, and where they go
when the slot is gone.

An *identity* is what a session remembers of its client: the affinity key, or, of a client
that a token, a claim or the load of the moment gave to a slot, that slot and the key to
fall back on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

#: Where an ASGI scope and a WSGI environ have the identity of their client.
IDENTITY = "stickyd.identity"

#: Where an ASGI scope has what brought its connection, where requests are logged.
HANDOFF = "stickyd.handoff"

#: Where they say whether a token of the client's, which was verified, names this worker.
KNOWN = "stickyd.known"

#: Where they have a :class:`RequestClient`, where workers keep the clients that they know.
CLIENT = "stickyd.client"

#: The slot of a connection that is placed by its key, or by load if it has none.  Any other slot
#: was named by a token, learned, or chosen by load; should that not be available, the
#: connection is placed as with this value.
BY_KEY = 0xFFFF

#: Text of a client begins with it only if it sends a NUL byte, and then it harms itself alone.
_MARK = b"\0slot "


def slot_identity(slot: int, key: bytes) -> bytes:
    """
    Make the identity of a client that belongs to a slot.

    :param key: by which it is placed should the slot not be available; may be empty.
    """
    return b"%b%d %b" % (_MARK, slot, key)


def identity_of(slot: int, key: bytes) -> bytes:
    """
    Give the identity of the client whose request came last on a connection, by the slot and the
    key that the connection's handoff has.
    """
    return key if slot == BY_KEY else slot_identity(slot, key)


def home_of(
    identity: bytes, slot_of: Callable[[bytes], int], available: Callable[[int], bool]
) -> int:
    """
    Find the slot of a client.

    :param slot_of: gives the slot of a key.
    :param available: whether clients may be placed on a slot.
    """
    if not identity.startswith(_MARK):
        return slot_of(identity)
    digits, _, key = identity[len(_MARK) :].partition(b" ")
    if digits.isdigit() and available(int(digits)):
        return int(digits)
    return slot_of(key or identity)


class IMarked(Protocol):
    """
    What brought a connection: :class:`stickyd.handoff.frame.Handoff`.
    """

    client: bytes | None
    newcomer: str | None

    def meet(self, mark: bytes) -> None:
        """
        Know the client of the last request by this from now on.
        """


class RequestClient:
    """
    Whose a request is.  An application may copy the scope or the environ that this stands in.
    """

    __slots__ = ("_brought", "_mark")

    def __init__(self, brought: IMarked) -> None:
        """
        :param brought: what brought the connection of the request that has come.
        """
        self._brought = brought
        self._mark = brought.client

    @property
    def mark(self) -> bytes | None:
        """
        What tells the client from all others of its worker; :obj:`None` for a newcomer that has
        been told of no token yet.
        """
        return self._brought.client if self._mark is None else self._mark

    def meet(self, mark: bytes) -> None:
        """
        Note what a token tells the client by, that its response has.
        """
        self._mark = mark
        self._brought.meet(mark)


def note_client(told: MutableMapping[str, Any], brought: IMarked) -> None:
    """
    Tell whose a request is, where workers keep the clients that they know.

    :param told: the scope or the environ.
    """
    if brought.client is not None or brought.newcomer is not None:
        told[CLIENT] = RequestClient(brought)


def client_in(told: Mapping[str, Any]) -> bytes | None:
    """
    What tells the client of a request from all others of its worker, if anything does.

    :param told: the scope or the environ.
    """
    client: RequestClient | None = told.get(CLIENT)
    return None if client is None else client.mark
