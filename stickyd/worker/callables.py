"""
Telling what a callable is: ASGI 3, ASGI 2, WSGI, or something that makes one.

By how it can be called, as asgiref and uvicorn do; nothing is called here.
"""

from __future__ import annotations

import inspect
from typing import Any


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
    if _takes(found, 3):
        # A plain function too, if it returns what is to be awaited: decorators are such.
        return ""
    if _is_asynchronous(found):
        return "does not take (scope, receive, send), so it is no ASGI application"
    if _takes(found, 2):
        return "takes two arguments, as WSGI applications do: write --wsgi instead"
    if _takes(found, 1):
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
    if _takes(found, 2):
        return ""
    if _takes(found, 0):
        return "takes no arguments: if it makes the application, keep what it makes in a variable"
    return "does not take (environ, start_response), so it is no WSGI application"


def _is_asynchronous(found: Any) -> bool:
    return inspect.iscoroutinefunction(found) or (
        not inspect.isfunction(found) and inspect.iscoroutinefunction(found.__call__)
    )


def _takes(found: Any, count: int) -> bool:
    """
    Whether it can be called with that many arguments.
    """
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return True  # Written in C, without a signature: it will tell itself.
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
