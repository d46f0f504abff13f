"""
Finding the application that the settings name.
"""

from __future__ import annotations

import inspect
from typing import Any

from twisted.internet.interfaces import IProtocol, IProtocolFactory

from stickyd.errors import ApplicationError
from stickyd.worker.callables import asgi_objection, makes, other_option, wsgi_objection
from stickyd.worker.loading import called, load


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


def load_asgi(option: str, name: str) -> Any:
    """
    Get an ASGI 3 application.

    :param option: ``--asgi``, or ``--asgi-factory`` to call what is found.
    :raises ApplicationError: if it is none, or the factory fails.
    """
    found = load(option, name)
    if option == "--asgi-factory":
        if not callable(found) or inspect.iscoroutinefunction(found):
            raise ApplicationError(
                f"{option} {name}: expected a plain function or class that returns the"
                f" application, not {type(found).__name__}"
            )
        found = called(option, name, found)
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
    if option == "--wsgi-factory":
        if not callable(found) or inspect.iscoroutinefunction(found):
            raise ApplicationError(
                f"{option} {name}: expected a plain function or class that returns the"
                f" application, not {type(found).__name__}"
            )
        found = called(option, name, found)
    elif makes(found):
        made = called(option, name, found)
        objection = wsgi_objection(made)
        if objection:
            raise ApplicationError(
                f"{option} {name}: {name.partition(':')[2]}() makes no WSGI application: it"
                f" {objection}, or keep what it makes in a variable and name that"
            )
        return made
    objection = wsgi_objection(found)
    if objection:
        if not callable(found):
            _refuse_others(option, name, found, "is no WSGI application")
        raise ApplicationError(f"{option} {name}: {objection}")
    return found
