"""
Finding the application that the settings name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol, IProtocolFactory

from stickyd.errors import ApplicationError
from stickyd.worker.callables import (
    asgi_objection,
    factory_objection,
    makes,
    other_option,
    wsgi_objection,
)
from stickyd.worker.loading import called, load

if TYPE_CHECKING:
    from collections.abc import Callable


def load_resource(name: str) -> Any:
    """
    Get the root resource: ``name`` is an ``IResource``, or a callable that returns one.

    :raises ApplicationError: if it is neither, or the callable fails.
    """
    # Not above: nobody else asks for twisted.web, which is 60 ms of a start.
    from twisted.web.resource import IResource

    found = load("--resource", name)
    return _provided("--resource", name, found, IResource, "twisted.web IResource")


def load_protocol(name: str) -> Any:
    """
    Get a protocol factory: ``name`` is an ``IProtocolFactory``, or a callable that returns
    one.

    :raises ApplicationError: if it is neither, or the callable fails.
    """
    found = load("--protocol", name)
    if isinstance(found, type) and IProtocol.implementedBy(found):
        raise ApplicationError(
            f"--protocol {name}: {found.__name__} is a protocol, not its factory; name"
            f" Factory.forProtocol({found.__name__}) (twisted.internet.protocol)"
        )
    return _provided("--protocol", name, found, IProtocolFactory, "IProtocolFactory")


def _provided(option: str, name: str, found: Any, interface: Any, known_as: str) -> Any:
    """
    Give what was found, or what it returns if it has to be called.
    """
    if not interface.providedBy(found):
        _refuse_others(option, name, found, f"is no {known_as}")
        if callable(found):
            found = called(option, name, found)
    if not interface.providedBy(found):
        raise ApplicationError(
            f"{option} {name}: {type(found).__name__} is no {known_as}, nor a callable that"
            " returns one"
        )
    return found


def _refuse_others(option: str, name: str, found: Any, objection: str) -> None:
    """
    :raises ApplicationError: if it is something that another option is for.
    """
    other = other_option(found, name)
    if other:
        raise ApplicationError(
            f"{option} {name}: {type(found).__name__} {objection}; write {other}"
        )


def _made(option: str, name: str, make: Any, kind: str, objection_to: Callable[[Any], str]) -> Any:
    """
    Call what makes an application.

    :param kind: what it should be.
    :param objection_to: says why something is none.
    :raises ApplicationError: if that cannot be called, fails, or makes something else.
    """
    objection = factory_objection(make, name)
    if objection:
        raise ApplicationError(f"{option} {name}: {objection}")
    made = called(option, name, make)
    objection = objection_to(made)
    if not objection:
        return made
    if callable(made):
        # Of applications themselves it says which option they have: here those of factories.
        objection = re.sub(r"(--(?:asgi|wsgi))(?=[: ])", r"\1-factory", objection)
        raise ApplicationError(f"{option} {name}: what it returns {objection}")
    what = "None (is a return missing?)" if made is None else f"{type(made).__name__}"
    raise ApplicationError(
        f"{option} {name}: it returns {what}, which cannot be called, so it is no {kind}"
        " application"
    )


def load_asgi(option: str, name: str) -> Any:
    """
    Get an ASGI 3 application.

    :param option: ``--asgi``, or ``--asgi-factory`` to call what is found.
    :raises ApplicationError: if it is none, or the factory fails.
    """
    found = load(option, name)
    if option == "--asgi-factory":
        return _made(option, name, found, "ASGI", asgi_objection)
    objection = asgi_objection(found)
    if objection:
        if not callable(found):
            _refuse_others(option, name, found, "is no ASGI application")
        raise ApplicationError(f"{option} {name}: {objection}")
    return found


def load_wsgi(option: str, name: str) -> Any:
    """
    Get a WSGI application: ``name`` is one, or a function without arguments that makes one.

    :param option: ``--wsgi``, or ``--wsgi-factory`` to call what is found, whatever it looks
        like.
    :raises ApplicationError: if it is neither, or the function fails.
    """
    found = load(option, name)
    if option == "--wsgi-factory" or makes(found):
        return _made(option, name, found, "WSGI", wsgi_objection)
    objection = wsgi_objection(found)
    if objection:
        if not callable(found):
            _refuse_others(option, name, found, "is no WSGI application")
        raise ApplicationError(f"{option} {name}: {objection}")
    return found
