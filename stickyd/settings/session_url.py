"""
The URL of the store of sessions: ``--sessions``.

It may have a password in it, so it is shown to nobody as it is: :attr:`SessionUrl.shown` is
what logs and errors have of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from urllib.parse import parse_qsl, unquote

from stickyd.errors import SettingError

GROUP = "stickyd.session_stores"
"""
The group of entry points in which others name their stores by scheme.
"""

_REDIS = "stickyd.sessions.stores.redis_opening:open_redis"

STORES = {
    "memory": "stickyd.sessions.stores.memory:open_memory",
    "sqlite": "stickyd.sessions.stores.sqlite:open_sqlite",
    **{
        f"{name}{form}": _REDIS
        for name in ("redis", "rediss", "valkey", "valkeys")
        for form in ("", "+sentinel", "+cluster")
    },
}
"""
What makes the store of a scheme, as ``module:function``: called with the :class:`SessionUrl` and
the :class:`stickyd.sessions.stores.opening.StoreContext`, it returns an
:class:`stickyd.sessions.interfaces.ISessionStore` that was not started.
"""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
# User and password, up to the last @: a password may have a slash that nobody has quoted; and
# what a query says to be secret.
_USER = re.compile(r"^(//).*@", re.DOTALL)
_SECRET = re.compile(r"([?&][^=&#]*(?:pass|secret|token|key)[^=&#]*=)[^&#]*", re.IGNORECASE)


@dataclass(frozen=True)
class SessionUrl:
    """
    A URL, in parts.

    :ivar scheme: before the first colon, in small letters.
    :ivar rest: what follows the colon, as it was written.
    """

    scheme: str
    rest: str = field(repr=False)

    @property
    def text(self) -> str:
        """
        The URL with the secrets in it.
        """
        return f"{self.scheme}:{self.rest}" if self.rest else self.scheme

    @property
    def shown(self) -> str:
        """
        The URL without the secrets in it.
        """
        rest = _SECRET.sub(r"\1***", _USER.sub(r"\1***@", self.rest))
        return f"{self.scheme}:{rest}" if rest else self.scheme

    @property
    def of_redis(self) -> bool:
        """
        Whether it is of our own store in Redis, which needs an asyncio loop.
        """
        return STORES.get(self.scheme) == _REDIS

    @property
    def factory(self) -> str:
        """
        What makes its store, as ``module:function``.

        :raises SettingError: if there is no such scheme.
        """
        ours = STORES.get(self.scheme)
        if ours is not None:
            return ours
        known = _known()
        try:
            return known[self.scheme]
        except KeyError:
            close = get_close_matches(self.scheme, known, 1, 0.6)
            hint = f"did you mean {close[0]}? " if close else ""
            raise SettingError(
                f"--sessions {self.shown}: there is no store {self.scheme!r}; {hint}known:"
                f" {', '.join(sorted(known))}"
            ) from None


def parse_session_url(text: str) -> SessionUrl:
    """
    Take a URL apart.

    :raises SettingError: if it is none, or of a store that there is not.
    """
    scheme, colon, rest = text.partition(":")
    if not _SCHEME.fullmatch(scheme):
        # Not shown: who knows what it is.
        raise SettingError(
            "--sessions: that is no URL; write memory, sqlite:/var/lib/app or redis://127.0.0.1"
        )
    url = SessionUrl(scheme.lower(), rest)
    url.factory  # noqa: B018 -- it raises
    if url.scheme == "sqlite":
        parse_sqlite(url)
    if colon and not rest:
        raise SettingError(f"--sessions {text}: nothing follows the colon")
    return url


def parse_sqlite(url: SessionUrl) -> tuple[str, bool]:
    """
    Take the URL apart.

    :return: the directory, and whether a commit shall outlive a power cut.
    :raises SettingError: if it means nothing.
    """
    shown = f"--sessions {url.shown}"
    path, _, query = url.rest.partition("?")
    if path.startswith("//"):
        host, slash, path = path[2:].partition("/")
        if host:
            raise SettingError(f"{shown}: {host!r} would be a host; write sqlite:/DIRECTORY")
        path = slash + path
    full = False
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "sync" or value not in ("full", "normal"):
            raise SettingError(
                f"{shown}: {name}={value} means nothing to sqlite; ?sync=full is all there is"
            )
        full = value == "full"
    if not path:
        raise SettingError(f"{shown}: name a directory, as in sqlite:/var/lib/app/sessions")
    return unquote(path), full


def _known() -> dict[str, str]:
    from importlib.metadata import entry_points  # with what it needs, 4 per cent of a start

    others = {point.name.lower(): point.value for point in entry_points(group=GROUP)}
    return {**others, **STORES}
