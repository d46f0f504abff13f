"""
Making the host that serves the application, and what stands between clients and it: TLS,
limits, the access log.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from stickyd.errors import ApplicationError, SettingError
from stickyd.figures.request_counts import RequestCounts
from stickyd.identity.desk import this_worker
from stickyd.net.brief_watches import watching_briefly
from stickyd.net.readiness import readiness_of
from stickyd.serve.access_file import AccessFile
from stickyd.serve.http.limits import HTTPLimits
from stickyd.worker.application import load_asgi, load_protocol, load_resource, load_wsgi
from stickyd.worker.postponed import import_web

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from stickyd.interfaces import IHost
    from stickyd.serve.access_log import AccessLog
    from stickyd.serve.http.context import Route
    from stickyd.serve.stickiness import Stickiness
    from stickyd.serve.tls.server import ServerTls
    from stickyd.sessions.registry import SessionRegistry
    from stickyd.sessions.web.cookie import SessionCookie
    from stickyd.settings import Settings

#: What serves each kind of application.  No worker imports what serves another: twisted.web and
#: uvicorn are 30 ms of a start each, with what they import.
_HOSTS = {
    "asgi": "stickyd.serve.asgi.host",
    "asgi-factory": "stickyd.serve.asgi.host",
    "protocol": "stickyd.serve.protocol",
    "wsgi": "stickyd.serve.wsgi.host",
    "wsgi-factory": "stickyd.serve.wsgi.host",
}

#: What serves the demonstration, resources and files.
_RESOURCES = "stickyd.serve.resource"

#: Kinds of application without HTTP/2: uvicorn has none, and a protocol is no HTTP at all.
_NO_HTTP2 = ("asgi", "asgi-factory", "protocol")

#: What ``stickyd[tls]`` installs, by the names that are imported.
_TLS_PACKAGES = ("OpenSSL", "cryptography", "service_identity")

_log = Logger()


def import_host(settings: Settings) -> None:
    """
    Import what will serve, as far as it is installed: :func:`build_host` says what is not.
    """
    kind, _ = settings.application or ("", "")
    host = _HOSTS.get(kind, _RESOURCES)
    if host == _RESOURCES:
        import_web()
    with suppress(ModuleNotFoundError):
        import_module(host)
    if settings.tls:
        with suppress(ModuleNotFoundError):
            import_module("stickyd.serve.tls.server")


def build_host(
    settings: Settings,
    reactor: Any,
    sessions: SessionRegistry,
    access_log: AccessFile | None = None,
    route: Route | None = None,
    stickiness: Stickiness | None = None,
    counts: RequestCounts | None = None,
) -> IHost:
    """
    Make the host that the settings ask for.

    :param access_log: where to write about requests; remains the caller's.
    :param route: asked about every request of HTTP, see
        :class:`stickyd.serve.http.context.HTTPContext`.
    :param stickiness: what is done to requests and responses of HTTP; see there too.
    :param counts: where requests are counted.
    :raises ApplicationError: if the application cannot be had.
    :raises SettingError: if a certificate cannot.
    """
    kind, name = settings.application or ("", "")
    readiness = watching_briefly(readiness_of(reactor))
    tls = server_tls(settings, reactor)
    if kind in ("asgi", "asgi-factory"):
        counts = RequestCounts() if counts is None else counts
        return _asgi_host(settings, reactor, sessions, tls, access_log, route, stickiness, counts)
    # Each host in its branch: see import_host.
    if kind == "protocol":
        from stickyd.serve.protocol import ProtocolHost

        page = None if counts is None else counts.page
        return ProtocolHost(load_protocol(name), readiness, reactor, tls, page)
    from stickyd.serve.http.context import HTTPContext

    context = HTTPContext(
        reactor, http_limits(settings), route, stickiness=stickiness, counts=counts
    )
    if not settings.networks:
        context.blocks.call_for_forwarded(_tell_of_forwarded)
    http: dict[str, Any] = {
        "context": context,
        "access_log": _access_log(settings, reactor, access_log),
        "tls": tls,
    }
    if kind in ("wsgi", "wsgi-factory"):
        from stickyd.serve.wsgi.host import WsgiHost
        from stickyd.serve.wsgi.options import WsgiOptions

        options = WsgiOptions(
            settings.wsgi_threads,
            settings.wsgi_queue,
            settings.root_path,
            settings.request_timeout,
            settings.wsgi_websockets,
            # A worker that wants to be replaced asks as an operator would: see Worker.
            lambda: os.kill(os.getpid(), signal.SIGTERM),
        )
        return WsgiHost(load_wsgi(f"--{kind}", name), reactor, readiness, options, **http)
    from stickyd.serve.resource import ResourceHost

    if kind == "static":
        # Files ask for no session, so none is looked up for them.
        root = _static_files(name, settings.static_dotfiles == "on")
        return ResourceHost(root, readiness, **http)
    from stickyd.sessions.web.cookie import SessionCookie

    root = load_resource(name) if kind == "resource" else _demonstration(sessions)
    cookie = SessionCookie.named(settings.session_cookie)
    return ResourceHost(root, readiness, sessions=sessions, session_cookie=cookie, **http)


def _demonstration(sessions: SessionRegistry) -> Any:
    from stickyd.serve.demo import Counter

    return Counter(sessions)


def _tell_of_forwarded() -> None:
    _log.info(
        "Requests have X-Forwarded-For or Forwarded, and nobody is trusted to write that: if they"
        " come from your proxy, name it, as in --trust 10.0.0.5",
        event="proxy.not-trusted",
    )


def _asgi_host(
    settings: Settings,
    reactor: Any,
    sessions: SessionRegistry,
    tls: ServerTls | None,
    access_log: AccessFile | None,
    route: Route | None,
    stickiness: Stickiness | None,
    counts: RequestCounts,
) -> IHost:
    kind, name = settings.application or ("", "")
    option = f"--{kind}"
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
        counts,
        # Where proxies are named, any other peer may be a client, which may write what it likes.
        None if settings.networks else _tell_of_forwarded,
    )
    # The settings have seen to it that the reactor is one on an asyncio loop.
    loop: Any = readiness_of(reactor)
    log = _access_log(settings, reactor, access_log)
    application = load_asgi(option, name)
    if settings.asgi_sessions == "on":
        # 9 ms of a start.
        from stickyd.sessions.apps.asgi_middleware import with_sessions
        from stickyd.sessions.apps.worker_place import WorkerPlace

        place = WorkerPlace(sessions, reactor.callFromThread)
        application = with_sessions(application, place, _session_cookie(settings))
    return AsgiHost(application, loop, f"{option} {name}", options, tls, log, route, stickiness)


def _session_cookie(settings: Settings) -> SessionCookie:
    from stickyd.sessions.apps.attributes import app_cookie

    return app_cookie(
        settings.session_cookie_name,
        path=settings.cookie_path,
        domain=settings.cookie_domain or None,
        max_age=settings.cookie_max_age or None,
        same_site=settings.cookie_samesite,
        https_only=settings.cookie_secure == "always",
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

    return StaticFiles(path, dotfiles=dotfiles)


def http_limits(settings: Settings) -> HTTPLimits:
    """
    The bounds that the settings put on requests.
    """
    return HTTPLimits(
        head_bytes=settings.head_bytes,
        head_fields=settings.head_fields,
        target_bytes=min(HTTPLimits.target_bytes, settings.head_bytes),
        body_bytes=settings.body_bytes or None,
        form_bytes=settings.form_bytes or None,
        idle=settings.idle_timeout,
        head=settings.head_timeout,
        body=settings.body_timeout,
    )


def server_tls(settings: Settings, clock: IReactorTime) -> ServerTls | None:
    """
    Read the certificates.

    :return: :obj:`None` if connections are plain.
    :raises SettingError: if a file is not what it should be, or a package is missing.
    """
    if not settings.tls:
        return None
    try:
        from stickyd.serve.tls.server import HTTP_1, HTTP_2, ServerTls
    except ModuleNotFoundError as problem:
        missing = (problem.name or "").partition(".")[0]
        if missing not in _TLS_PACKAGES:
            raise
        raise SettingError(
            f"--tls needs {missing}, which is not installed: pip install 'stickyd[tls]'"
        ) from None
    kind, _ = settings.application or ("", "")
    if kind == "protocol":
        # What it speaks, a protocol knows by itself, whatever its clients offer.
        protocols: tuple[bytes, ...] = ()
    else:
        protocols = HTTP_2 if offers_http2(settings) else HTTP_1
    return ServerTls(clock, settings.tls, protocols)


def offers_http2(settings: Settings) -> bool:
    """
    Whether clients are offered HTTP/2.

    :raises SettingError: if they shall be, but it is not installed.
    """
    kind, _ = settings.application or ("", "")
    if not settings.tls or settings.http2 == "off" or kind in _NO_HTTP2:
        return False
    found = find_spec("h2") is not None
    if not found and settings.http2 == "on":
        raise SettingError(
            "--http2 on needs h2, which is not installed: pip install 'stickyd[http2]'"
        )
    return found


def _access_log(settings: Settings, reactor: Any, file: AccessFile | None) -> AccessLog | None:
    if file is None:
        return None
    # Only here: 2 ms of a start.
    from stickyd.serve.access_log import AccessLog

    form = settings.access_log_format
    log = AccessLog(file, reactor, form=form, slot=lambda: this_worker.slot)
    file.call_before_reopening(log.flush)
    return log


def open_access_log(path: str) -> AccessFile | None:
    """
    Open the access log, if there is one.

    :param path: as the setting; ``-`` for what the worker writes to its standard output.
    :return: the caller closes it; :obj:`None` for no path.
    :raises SettingError: if it cannot be opened.
    """
    return AccessFile(path) if path else None
