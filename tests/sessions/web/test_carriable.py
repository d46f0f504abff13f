"""
Components of a session that say what they are made of go along with it.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import Any

from twisted.python.components import registerAdapter
from twisted.web import server
from zope.interface import Interface, implementer

from stickyd.interfaces import ICarriable, ISessionData
from stickyd.sessions.answers import result_of
from tests.hosting import logged
from tests.sessions.web.web import Web


class ITrolley(Interface):
    """
    What a client has put into it.
    """


@implementer(ITrolley, ICarriable)
class Trolley:
    """
    A class as twisted.web's documentation has them, that says what it is made of.
    """

    def __init__(self, session: Any) -> None:
        self.items: list[Any] = []

    def to_plain(self) -> list[Any]:
        """
        Give the items.
        """
        return self.items

    def from_plain(self, data: Any) -> None:
        """
        Have these items.
        """
        self.items = data


registerAdapter(Trolley, server.Session, ITrolley)


def fill(request: Any) -> bytes:
    """
    Put one more thing into the trolley.
    """
    trolley = request.getSession(ITrolley)
    trolley.items.append(len(trolley.items))
    return b"%d" % len(trolley.items)


def test_component_is_stored_and_carried() -> None:
    """
    It is saved with each response, and made again of that in another worker; the log has nothing
    to say.
    """
    web = Web(fill)
    with logged() as events:
        assert [web.get().body for _ in range(2)] == [b"1", b"2"]
    assert events == []
    record = result_of(web.store.load(web.uid))
    assert record is not None
    assert b"Trolley" in record.data
    other = Web(fill)
    for chunk in web.registry.export_batches():
        result_of(other.registry.import_chunk(chunk))
    other.cookies.update(web.cookies)
    assert other.get().body == b"3"


def test_component_that_was_set() -> None:
    """
    One that the application puts there itself goes along too.
    """
    web = Web(lambda request: b"")
    session = web.site.makeSession()
    mine = Trolley(None)
    mine.items.append(1)
    session.setComponent(ITrolley, mine)
    result_of(session.settle())
    data: Any = ISessionData(session)
    assert dict(data) == {"stickyd.components": {f"{__name__}.ITrolley": [1]}}


def test_component_that_is_not_plain() -> None:
    """
    One that is made of something else fails the request, as the data would.
    """

    def spoil(request: Any) -> bytes:
        request.getSession(ITrolley).items.append(object())
        return b""

    web = Web(spoil)
    with logged():
        assert web.get().code == 500
