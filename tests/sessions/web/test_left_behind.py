"""
Fault 45: what an application puts on a session beside its data does not go along when the
session is carried to another worker, and the log says so.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from twisted.logger import formatEvent
from twisted.python.components import registerAdapter
from twisted.web import server
from zope.interface import Interface, implementer

from stickyd.sessions.interfaces import ISessionData
from stickyd.sessions.web.session import Session
from tests.hosting import logged
from tests.sessions.web.web import Web, count

if TYPE_CHECKING:
    from collections.abc import Callable


class IBasket(Interface):
    """
    What a client has put into it.
    """


class IView(Interface):
    """
    Another look at the data.
    """


class IKept(Interface):
    """
    What takes care of itself.
    """


@implementer(IBasket)
class Basket:
    """
    In memory alone.
    """

    def __init__(self, session: Any) -> None:
        self.items: list[str] = []


@implementer(IView)
class View:
    """
    Made of the data.
    """

    def __init__(self, session: Any) -> None:
        self.data = ISessionData(session)


@implementer(IKept)
class Kept:
    """
    In memory, and written to the data before it leaves.
    """

    def __init__(self, session: Any) -> None:
        self.count = 0
        session.call_before_leaving(lambda: ISessionData(session).__setitem__("count", self.count))


registerAdapter(Basket, server.Session, IBasket)
registerAdapter(View, server.Session, IView)
registerAdapter(Kept, server.Session, IKept)


def told(use: Callable[[Any], object]) -> list[str]:
    """
    What the log says when each of three sessions is used so, twice.
    """
    web = Web(count)
    with logged() as events:
        for _ in range(3):
            session = web.site.makeSession()
            use(session)
            use(session)
    return [formatEvent(event) for event in events]


BASKET = f"The component {__name__}.IBasket "


@pytest.mark.parametrize(
    ("use", "what"),
    [
        (lambda session: session.getComponent(IBasket), BASKET),
        (lambda session: IBasket(session), BASKET),
        (lambda session: session.setComponent(IBasket, object()), BASKET),
        (lambda session: session.setAdapter(IBasket, Basket), BASKET),
        (lambda session: session.addComponent(Basket(session), True), BASKET),
        (lambda session: session.addAdapter(Basket), BASKET),
        (lambda session: setattr(session, "basket", []), "The attribute basket "),
        (lambda session: session.notifyOnExpire(print), "A callback of notifyOnExpire() "),
    ],
)
def test_fault_45_it_is_told_once(use: Callable[[Any], object], what: str) -> None:
    """
    Whatever it is and however it was put there; with its name, and what to write instead.
    """
    (line,) = told(use)
    assert line.startswith(what)
    assert "stickyd.interfaces.ISessionData" in line
    assert "call_before_leaving" in line


@pytest.mark.parametrize(
    "use",
    [
        lambda session: session.getComponent(ISessionData),
        lambda session: ISessionData(session),
        lambda session: session.getComponent(IView),
        lambda session: session.getComponent(IKept),
        lambda session: (session.call_before_leaving(print), session.setComponent(IBasket, 1)),
        lambda session: session.touch(),
        lambda session: setattr(session, "sessionTimeout", 60),
        lambda session: session.getComponent(Interface, None),
    ],
)
def test_fault_45_nothing_is_told_for_nothing(use: Callable[[Any], object]) -> None:
    """
    The data goes along; so does what is made of it, or is written there in time.
    """
    assert told(use) == []


def test_fault_45_attributes_of_a_subclass() -> None:
    """
    What a session class of the application's keeps is no other matter.
    """

    class Own(Session):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **keywords)
            self.basket: list[str] = []

    web = Web(count)
    web.site.sessionFactory = Own
    with logged() as events:
        web.get()
    assert [formatEvent(event).partition(" on ")[0] for event in events] == ["The attribute basket"]
