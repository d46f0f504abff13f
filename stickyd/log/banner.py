"""
What a start says of the server as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stickyd.settings import Settings

#: Kinds of applications, as people call them.
_KINDS = {
    "asgi": "ASGI",
    "asgi-factory": "ASGI, by a factory",
    "wsgi": "WSGI",
    "wsgi-factory": "WSGI, by a factory",
    "resource": "twisted.web",
    "static": "files",
    "protocol": "a protocol",
}

#: Hosts that stand for all addresses, and one at which this machine answers then.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def banner(
    settings: Settings, addresses: Sequence[tuple[str, int] | str], workers: int, pid: int
) -> str:
    """
    Say what is served, where, by how many workers and why, how clients are told apart, and
    where to look.

    :param addresses: host and port, or the path of a socket.
    :param pid: the primary's.
    :return: several lines.
    """
    kind, name = settings.application or ("", settings.application_name)
    what = f"{name} ({_KINDS[kind]})" if kind else name
    if settings.workers:
        why = f"as --workers {settings.workers} says"
    else:
        why = "one for each CPU that this process may use"
    ask = "" if settings.control in ("", "off") else "stickyctl status; "
    lines = [
        f"stickyd {__version__} serves {what}",
        *(f"  at       {_url(settings, address)}" for address in addresses),
        f"  workers  {workers}, {why}",
        f"  clients  told apart by {', '.join(settings.affinity)}; placed by {settings.placement}",
        f"  look     {ask}kill -HUP {pid} reloads, kill {pid} stops",
    ]
    return "\n".join(lines)


def _url(settings: Settings, address: tuple[str, int] | str) -> str:
    if isinstance(address, str):
        return f"the socket {address}"
    host, port = address
    shown = _EVERYWHERE.get(host, host)
    netloc = f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
    more = ", and on every other address" if host in _EVERYWHERE else ""
    if settings.protocol:
        return f"{netloc}{more}"
    return f"{'https' if settings.tls else 'http'}://{netloc}/{more}"
