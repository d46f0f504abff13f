"""
Who may ask the admin endpoint what.

Three questions.  *Is the request for us?*  A page of some other site can have its host name
resolve to our address, and then read what we answer (DNS rebinding); so ``Host`` must be a name
of ours.  *Did our own page send it?*  A page of another site may send requests to us with our
cookie; so what changes something must have our ``Origin`` (Fetch, section 3.2), or none, as
programs have that are no browsers.  *Who sends it?*  Whoever has the token, or may open the UNIX
socket.
"""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from stickyd.settings.admin_place import AdminPlace


class Guard:
    """
    Judges requests by their fields.

    :ivar token: what lets one see and change everything.
    :ivar cookie: the name of the cookie that carries it in a browser.
    :ivar trusts_all: whether nobody is asked for the token.
    """

    def __init__(self, place: AdminPlace, hosts: Collection[str], token: str, port: int) -> None:
        """
        :param place: where we listen.
        :param hosts: names by which we are reached, beside ``localhost``.
        :param port: the one that we have got; cookies are shared by all ports of a host.
        """
        self.token = token
        self.cookie = f"stickyd-admin-{port}"
        self.trusts_all = bool(place.path) and place.is_private
        self._local = place.is_private
        self._hosts = {"localhost", *(host.lower().rstrip(".") for host in hosts)}

    def objection_to_host(self, host: str | None) -> str:
        """
        Say why a request is not for us; empty if it is.

        :param host: its field ``Host``.
        """
        name = _name_of(host or "")
        if name in self._hosts:
            return ""
        try:
            address = ip_address(name)
        except ValueError:
            return (
                f"{name[:80] or 'no host'} is no name of this server's; name it by"
                " --admin-host, or write an address"
            )
        # No name leads here by an address, so no other site can be behind it; but somebody may
        # have forwarded it from far.
        if self._local and not address.is_loopback:
            return f"{name} is no address of this endpoint's"
        return ""

    def objection_to_origin(self, host: str | None, origin: str | None, site: str | None) -> str:
        """
        Say why a request that changes something, or reads what is not for everybody, may come
        from another site's page; empty if it cannot.

        :param host: its field ``Host``, which was found good.
        :param origin: its field ``Origin``.
        :param site: its field ``Sec-Fetch-Site``.
        """
        if site not in (None, "same-origin", "none"):
            return "the request comes from a page of another site"
        if origin is not None and origin.partition("://")[2].lower() != (host or "").lower():
            return f"the request comes from a page of {origin[:80]}"
        return ""

    def knows(self, authorization: str | None, cookies: str | None) -> bool:
        """
        Whether a request may see and change everything.

        :param authorization: its field of that name: ``Bearer`` and the token.
        :param cookies: its field ``Cookie``.
        """
        if self.trusts_all:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        try:
            morsel = SimpleCookie(cookies or "").get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and self.is_token(morsel.value)

    def is_token(self, given: str) -> bool:
        """
        Whether that is the token; how long it takes to say says nothing.
        """
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())


def _name_of(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")
