"""
Finding the application that the settings name, and the host that serves it.
"""

from __future__ import annotations

import importlib
import importlib.util
import traceback
from typing import TYPE_CHECKING, Any

from twisted.web.resource import IResource

from stickyd.errors import ApplicationError
from stickyd.handoff.readiness import readiness_of
from stickyd.serve.counter import Counter
from stickyd.serve.resource import ResourceHost

if TYPE_CHECKING:
    from stickyd.interfaces import IHost
    from stickyd.settings import Settings


def load(option: str, name: str) -> Any:
    """
    Import ``module:attribute``.

    :param option: the option that names it, for errors.
    :raises ApplicationError: naming the module, the attribute and the cause.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ApplicationError(
            f"{option} {name}: expected MODULE:ATTRIBUTE, as in {option} my.site:root"
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        if problem.name is not None and f"{module_name}.".startswith(f"{problem.name}."):
            raise ApplicationError(
                f"{option} {name}: there is no module {problem.name!r} on the path: start"
                " twistd where it is, or set PYTHONPATH"
            ) from None
        raise _import_failed(option, name, module_name, problem) from None
    except BaseException as problem:  # noqa: BLE001 (whatever an import may do, SystemExit too)
        raise _import_failed(option, name, module_name, problem) from None
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ApplicationError(
                f"{option} {name}: module {module_name!r} ({getattr(found, '__file__', '')})"
                f" has no attribute {part!r}"
            ) from None
    return found


def _import_failed(option: str, name: str, module: str, problem: BaseException) -> ApplicationError:
    frames = traceback.extract_tb(problem.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return ApplicationError(
        f"{option} {name}: importing {module!r} failed: {type(problem).__name__}: {problem}{where}"
    )


def load_resource(name: str) -> Any:
    """
    Get the root resource: ``name`` is an ``IResource``, or a callable that returns one.

    :raises ApplicationError: if it is neither, or the callable fails.
    """
    found = load("--resource", name)
    if not IResource.providedBy(found) and callable(found):
        try:
            found = found()
        except Exception as problem:  # noqa: BLE001 (the application's own code)
            frame = traceback.extract_tb(problem.__traceback__)[-1]
            raise ApplicationError(
                f"--resource {name}: calling it failed: {type(problem).__name__}: {problem}"
                f" ({frame.filename}, line {frame.lineno})"
            ) from None
    if not IResource.providedBy(found):
        raise ApplicationError(
            f"--resource {name}: {type(found).__name__} is no twisted.web IResource, nor a"
            " callable that returns one"
        )
    return found


def build_host(settings: Settings, reactor: Any) -> IHost:
    """
    Make the host that the settings ask for.

    :raises ApplicationError: if the application cannot be had.
    """
    root = load_resource(settings.resource) if settings.resource else Counter()
    return ResourceHost(root, reactor, readiness_of(reactor))
