"""
Finding the application that the settings name, and the host that serves it.
"""

from __future__ import annotations

import inspect
import os
import signal
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.web.resource import IResource

from stickyd.errors import ApplicationError
from stickyd.net.readiness import readiness_of
from stickyd.serve.access_log import AccessLog
from stickyd.serve.demo import Counter
from stickyd.serve.resource import ResourceHost
from stickyd.worker.callables import asgi_objection, makes, other_option, wsgi_objection
from stickyd.worker.edge import http_limits, server_tls
from stickyd.worker.loading import called, load

if TYPE_CHECKING:
    from typing import TextIO

    from stickyd.interfaces import IHost
    from stickyd.serve.http.context import Route
    from stickyd.serve.stickiness import Stickiness
    from stickyd.serve.tls.server import ServerTls
    from stickyd.sessions.registry import SessionRegistry
    from stickyd.settings import Settings


def load_resource(name: str) -> Any:
    """
    Get the root resource: ``name`` is an ``IResource``, or a callable that returns one.

    :raises ApplicationError: if it is neither, or the callable fails.
    """
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


def build_host(
    settings: Settings,
    reactor: Any,
    sessions: SessionRegistry,
    access_log: TextIO | None = None,
    route: Route | None = None,
    reception: Stickiness | None = None,
) -> IHost:
    """
    Make the host that the settings ask for.

    :param access_log: where to write about requests; remains the caller's.
    :param route: asked about every request of HTTP, see
        :class:`stickyd.serve.http.context.Shared`.
    :param reception: receives every request of HTTP.
    :raises ApplicationError: if the application cannot be had.
    :raises SettingError: if a certificate cannot.
    """
    kind, name = settings.application or ("", "")
    readiness = readiness_of(reactor)
    tls = server_tls(settings, reactor)
    if kind in ("asgi", "asgi-factory"):
        return _asgi_host(settings, f"--{kind}", name, reactor, tls, access_log, route, reception)
    if kind == "protocol":
        from stickyd.serve.protocol import ProtocolHost

        return ProtocolHost(load_protocol(name), readiness, reactor, tls)
    http: dict[str, Any] = {
        "sessions": sessions,
        "limits": http_limits(settings),
        "access_log": access_log,
        "tls": tls,
        "route": route,
        "reception": reception,
    }
    if kind in ("wsgi", "wsgi-factory"):
        from stickyd.serve.wsgi.host import WsgiHost
        from stickyd.serve.wsgi.options import WsgiOptions

        options = WsgiOptions(
            settings.wsgi_threads,
            settings.wsgi_queue,
            settings.root_path,
            settings.request_timeout,
            # Our own wish to be replaced is an operator's: see the worker's handler.
            lambda: os.kill(os.getpid(), signal.SIGTERM),
        )
        return WsgiHost(load_wsgi(f"--{kind}", name), reactor, readiness, options, **http)
    if kind == "static":
        root = _static_files(name, settings.static_dotfiles == "on")
    else:
        root = load_resource(name) if kind == "resource" else Counter(sessions)
    return ResourceHost(root, reactor, readiness, **http)


def _asgi_host(
    settings: Settings,
    option: str,
    name: str,
    reactor: Any,
    tls: ServerTls | None,
    access_log: TextIO | None,
    route: Route | None,
    reception: Stickiness | None,
) -> IHost:
    try:
        from stickyd.serve.asgi.config import AsgiOptions
        from stickyd.serve.asgi.host import AsgiHost
    except ModuleNotFoundError as problem:
        if problem.name != "uvicorn":
            raise
        raise ApplicationError(
            f"{option} {name}: ASGI applications need uvicorn, which is not installed:"
            " pip install 'stickyd[asgi]'"
        ) from None
    options = AsgiOptions(
        settings.root_path,
        settings.lifespan,
        settings.limit_concurrency,
        settings.ws_max_size,
        http_limits(settings),
    )
    # The settings have seen to it that the reactor is one on an asyncio loop.
    loop: Any = readiness_of(reactor)
    log = None if access_log is None else AccessLog(access_log, reactor)
    return AsgiHost(
        load_asgi(option, name), loop, f"{option} {name}", options, tls, log, route, reception
    )


def _static_files(directory: str, dotfiles: bool) -> Any:
    path = os.path.abspath(directory)
    try:
        os.listdir(path)
    except OSError as problem:
        raise ApplicationError(
            f"--static {directory}: cannot serve the directory {path}: {problem.strerror}"
        ) from None
    from stickyd.serve.static.files import StaticFiles

    files = StaticFiles(path)
    files.dotfiles = dotfiles
    return files
