"""
What stands between the clients and any application: TLS, limits, the access log.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from stickyd.errors import SettingError
from stickyd.serve.http.limits import HTTPLimits

if TYPE_CHECKING:
    from typing import TextIO

    from twisted.internet.interfaces import IReactorTime

    from stickyd.serve.tls.server import ServerTls
    from stickyd.settings import Settings

#: What speaks HTTP/1.1 only: uvicorn has no HTTP/2; and no HTTP at all.
_NO_HTTP2 = ("asgi", "asgi-factory", "protocol")

#: What ``stickyd[tls]`` installs, by the names that are imported.
_TLS_PACKAGES = ("OpenSSL", "cryptography", "service_identity")


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
        # What it speaks it knows by itself, and what its clients offer is theirs.
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
    missing = [name for name in ("h2", "priority") if find_spec(name) is None]
    if missing and settings.http2 == "on":
        raise SettingError(
            f"--http2 on needs {missing[0]}, which is not installed: pip install 'stickyd[http2]'"
        )
    return not missing


def open_access_log(path: str) -> TextIO | None:
    """
    Open the access log to append to it, as every other worker does.

    :param path: as the setting; ``-`` for what the worker writes to its standard output.
    :return: the caller closes it, unless it is ``sys.stdout``; :obj:`None` for no path.
    :raises SettingError: if it cannot be opened.
    """
    if not path:
        return None
    if path == "-":
        return sys.stdout
    try:
        return open(path, "a", encoding="ascii")
    except OSError as problem:
        raise SettingError(
            f"--access-log {path}: {problem.strerror}; name a file that the workers may write"
        ) from None
