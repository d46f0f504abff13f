"""
Importing ahead what a worker would import as it starts, in the process that it is forked from.

None of it is the application's, nor of a package that a setting names.  What is not installed is
passed over: the worker says what is missing.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from stickyd.settings.bus_url import read_bus_url
from stickyd.settings.session_url import parse_session_url
from stickyd.worker.build_host import import_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stickyd.settings import Settings

#: What has the reactor, by ``--worker-reactor``; to import it installs none.
_REACTORS = {
    "epoll": ("twisted.internet.epollreactor",),
    "asyncio": ("twisted.internet.asyncioreactor",),
    "uvloop": ("twisted.internet.asyncioreactor", "uvloop"),
}

#: What else is imported for an application as its host is made, by kind.
_WITH_HOST = {
    "": ("stickyd.serve.demo",),
    "static": ("stickyd.serve.static.files",),
    "asgi": ("stickyd.serve.asgi.websocket", "uvicorn.lifespan.on"),
}


def preload(settings: Settings, reactor_name: str) -> None:
    """
    Import it.

    :param reactor_name: which reactor a worker installs.
    """
    import_host(settings)
    for name in ("stickyd.worker.server", *_REACTORS[reactor_name], *_of_settings(settings)):
        with suppress(ModuleNotFoundError):
            import_module(name)


def _of_settings(settings: Settings) -> Iterator[str]:
    kind, _ = settings.application or ("", "")
    yield from _WITH_HOST.get(kind.removesuffix("-factory"), ())
    if settings.asgi_sessions == "on":
        yield "stickyd.sessions.apps.asgi_middleware"
        yield "stickyd.sessions.apps.worker_place"
    if settings.access_log:
        yield "stickyd.serve.access_log"
    if settings.http2 == "on":
        yield "stickyd.serve.http2.connection"
    if read_bus_url(settings.bus) is not None:
        yield "stickyd.messaging.redis_way"
    store, _, _ = parse_session_url(settings.sessions).factory.partition(":")
    if store.startswith("stickyd."):
        yield store
