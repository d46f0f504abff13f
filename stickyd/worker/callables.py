"""
Telling what a callable is: ASGI 3, ASGI 2, WSGI, or something that makes one.

By how it can be called, as asgiref and uvicorn do; nothing is called here.
"""

from __future__ import annotations

import inspect
from typing import Any

from twisted.internet.interfaces import IProtocolFactory


def asgi_objection(found: Any) -> str:
    """
    Say why something is no ASGI 3 application, and what to write instead.

    :return: the rest of a sentence; ``""`` if there is no objection.
    """
    what = type(found).__name__
    if not callable(found):
        return f"{what} cannot be called, so it is no ASGI application"
    if inspect.isclass(found):
        # asgiref's rule, with uvicorn's exception: awaiting an instance serves a request.
        if hasattr(found, "__await__"):
            return ""
        return "is a class: give an instance of it, or make one by --asgi-factory"
    if _takes(found, 3) and not makes(found):
        # A plain function too, if it returns what is to be awaited: decorators are such.
        return ""
    if _is_asynchronous(found):
        return "does not take (scope, receive, send), so it is no ASGI application"
    if _takes(found, 2) and not makes(found):
        return "takes two arguments, as WSGI applications do: write --wsgi instead"
    if _takes(found, 1) and not makes(found):
        return (
            "takes only a scope, as ASGI 2 applications do: wrap it in"
            " asgiref.compatibility.guarantee_single_callable"
        )
    if _takes(found, 0):
        return "takes no arguments: if it makes the application, write --asgi-factory instead"
    return "does not take (scope, receive, send), so it is no ASGI application"


def wsgi_objection(found: Any) -> str:
    """
    Say why something is no WSGI application, and what to write instead.

    :return: the rest of a sentence; ``""`` if there is no objection.
    """
    if not callable(found):
        return f"{type(found).__name__} cannot be called, so it is no WSGI application"
    if _is_asynchronous(found):
        return "is asynchronous, as ASGI applications are: write --asgi instead"
    if _takes(found, 2) or (_takes_itself(found, 2) and not makes(found)):
        return ""
    if inspect.isclass(found) and _takes(found, 0):
        return "is a class: give an instance of it, or make one by --wsgi-factory"
    return "does not take (environ, start_response), so it is no WSGI application"


def factory_objection(found: Any, name: str) -> str:
    """
    Say why something cannot make an application, and what to write instead.

    :param name: ``module:attribute``.
    :return: the rest of a sentence; ``""`` if there is no objection.
    """
    other = other_option(found, name)
    if other:
        return f"is an application itself: write {other} instead"
    if not callable(found):
        return (
            "expected a plain function or class that returns the application, not"
            f" {type(found).__name__}"
        )
    if not inspect.isclass(found) and _is_asynchronous(found):
        return (
            "is asynchronous, and nobody waits for it: it must be a plain function or class"
            " that returns the application"
        )
    if not _takes(found, 0):
        return "needs arguments, and gets none: write a function without any that calls it"
    return ""


def makes(found: Any) -> bool:
    """
    Whether it looks like a function that makes an application, as ``create_app(config=None)``:
    it can be called without arguments, and takes no more than it can be told from there.
    """
    if not inspect.isfunction(found) or inspect.iscoroutinefunction(found):
        return False
    parameters = inspect.signature(found).parameters.values()
    return all(
        parameter.default is not parameter.empty or parameter.kind is parameter.VAR_KEYWORD
        for parameter in parameters
    )


def other_option(found: Any, name: str) -> str:
    """
    What to write for something that stands behind the wrong option.

    :param name: ``module:attribute``.
    :return: ``""`` if it looks like nothing that can be served.
    """
    # Not above: as in stickyd.worker.application.load_resource.
    from twisted.web.resource import IResource

    if IResource.providedBy(found):
        return f"--resource {name}"
    if IProtocolFactory.providedBy(found):
        return f"--protocol {name}"
    if not inspect.isclass(found) and callable(getattr(found, "resource", None)):
        return f"--resource {name}.resource"  # Klein's
    if not callable(found) or inspect.isclass(found) or makes(found):
        return ""
    if _is_asynchronous(found) and not asgi_objection(found):
        return f"--asgi {name}"
    if not _is_asynchronous(found) and not _takes(found, 0) and not wsgi_objection(found):
        return f"--wsgi {name}"
    return ""


def _is_asynchronous(found: Any) -> bool:
    return inspect.iscoroutinefunction(found) or (
        not inspect.isfunction(found) and inspect.iscoroutinefunction(found.__call__)
    )


def _takes_itself(found: Any, count: int) -> bool:
    """
    The same as :func:`_takes`, whatever it wraps: werkzeug's ``Request.application`` makes an
    application of a function that takes a request.
    """
    return _takes(found, count, follow_wrapped=False)


def _takes(found: Any, count: int, follow_wrapped: bool = True) -> bool:
    """
    Whether it can be called with that many arguments.
    """
    try:
        signature = inspect.signature(found, follow_wrapped=follow_wrapped)
    except (TypeError, ValueError):
        return True  # Written in C, without a signature: it will tell itself.
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
