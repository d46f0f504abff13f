"""
The cookie that carries a session's id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# RFC 9110, section 5.6.2: what a cookie's name may consist of.
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 6265, section 4.1.1: what the value of an attribute may consist of.
_VALUE = re.compile(r"[\x20-\x3a\x3c-\x7e]*")


@dataclass(frozen=True)
class SessionCookie:
    """
    How the cookie looks.  The names are those of twisted.web; unlike there, scripts
    cannot read it, and other sites' pages cannot have it sent with their forms.
    """

    name: bytes = b"TWISTED_SESSION"
    """Its name for sessions whose id may be sent without TLS."""

    secure_name: bytes = b"TWISTED_SECURE_SESSION"
    """Its name for sessions whose id is only sent over TLS."""

    path: str = "/"
    """The part of the site that it is sent to."""

    domain: str | None = None
    """The domain that it is sent to, with all below it; :obj:`None`: only this host."""

    max_age: int | None = None
    """Seconds for which the browser keeps it; :obj:`None`: until it is closed."""

    http_only: bool = True
    """Whether scripts are kept from reading it."""

    same_site: str | None = "lax"
    """``lax``, ``strict`` or ``none``; :obj:`None`: as the browser likes."""

    always_secure: bool = False
    """
    Whether it is sent over TLS only even if it was given on a plain connection: right
    behind a proxy that ends TLS.
    """

    @classmethod
    def named(cls, name: str) -> SessionCookie:
        """
        The one of a name, and for TLS of that with ``_SECURE`` behind it; twisted.web's own
        name has its own for TLS.
        """
        own = name.encode("ascii")
        return cls() if own == cls.name else cls(own, own + b"_SECURE")

    def name_for(self, secure: bool) -> bytes:
        """
        Give its name.

        :param secure: whether the client speaks TLS.
        """
        return self.secure_name if secure else self.name

    def __post_init__(self) -> None:
        for name in (self.name, self.secure_name):
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"{name!r} cannot be the name of a cookie (RFC 9110, 5.6.2)")
        if self.name == self.secure_name:
            raise ValueError("sessions with and without TLS cannot share a cookie")
        for value in (self.path, self.domain or ""):
            if not _VALUE.fullmatch(value):
                raise ValueError(f"{value!r} cannot stand in a cookie (RFC 6265, 4.1.1)")
        if self.same_site not in (None, "lax", "strict", "none"):
            raise ValueError(f"same_site is lax, strict, none or None, not {self.same_site!r}")
        if self.same_site == "none" and not self.always_secure:
            raise ValueError("browsers drop a cookie with SameSite=None that is not always secure")
        if self.max_age is not None and self.max_age <= 0:
            raise ValueError(f"max_age must be more than 0 seconds, not {self.max_age!r}")
