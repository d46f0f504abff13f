"""
How the cookie of an application's session looks.
"""

from __future__ import annotations

from stickyd.sessions.web.cookie import SessionCookie


def app_cookie(
    name: str = "session",
    *,
    path: str = "/",
    domain: str | None = None,
    max_age: int | None = None,
    same_site: str | None = "lax",
    http_only: bool = True,
    https_only: bool = False,
) -> SessionCookie:
    """
    Say how the cookie looks.

    Over TLS it has another name, with ``_SECURE`` behind it, and is ``Secure``: so nobody who
    can write to a plain connection can plant a session on an encrypted one.

    :param name: its name.
    :param path: the part of the site that it is sent to.
    :param domain: the domain that it is sent to, with all below it; :obj:`None`: only this
        host.
    :param max_age: seconds for which the browser keeps it, from the last change;
        :obj:`None`: until it is closed.
    :param same_site: ``lax``, ``strict`` or ``none``; :obj:`None`: as the browser likes.
    :param http_only: whether scripts are kept from reading it.
    :param https_only: whether it is ``Secure`` on plain connections too: right behind a proxy
        that ends TLS and is not trusted.
    :raise ValueError: it cannot look so.
    """
    return SessionCookie(
        name=name.encode("latin-1"),
        secure_name=name.encode("latin-1") + b"_SECURE",
        path=path,
        domain=domain,
        max_age=max_age,
        http_only=http_only,
        same_site=same_site,
        always_secure=https_only,
    )
