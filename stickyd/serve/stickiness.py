"""
What a worker does to requests and responses so that clients find back to it.

It takes our stamps off the ids that clients send, and puts them on those that the
application mints; gives the sticky cookie to clients that have none; has the primary
remember ids that cannot be stamped; and tells the application what trusted proxies say of
the client.  One :class:`Exchange` does so for one request, whatever host serves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from twisted.logger import Logger

from stickyd.affinity.forwarded import origin_of
from stickyd.affinity.keys import CookieKey, HeaderKey
from stickyd.affinity.resolve import MOST_VALUES, learned_id
from stickyd.affinity.spec import LearnKey, StampKey
from stickyd.affinity.token import is_cookie

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.defer import Deferred

    from stickyd.affinity.peek.http1 import Head
    from stickyd.affinity.spec import Affinity
    from stickyd.affinity.token import Named, Signer
    from stickyd.affinity.trust import Networks

    Pairs = list[tuple[bytes, bytes]]


#: What the names of cookies begin with that nothing else uses.
_OUR_NAMES = b"stickyd"


class ClaimIds(Protocol):
    """
    Has the primary remember ids as this worker's; gives what fires when it knows, or
    :obj:`None` if it knows already.
    """

    def __call__(self, identifiers: list[bytes]) -> Deferred[None] | None: ...


@dataclass(frozen=True)
class CookieAttributes:
    """
    How the sticky cookie is set.

    :ivar secure: ``auto`` (if the client speaks TLS), ``always`` or ``never``.
    :ivar same_site: ``lax``, ``strict`` or ``none``.
    :ivar max_age: in seconds; 0 is until the browser is closed.
    """

    path: str = "/"
    domain: str = ""
    same_site: str = "lax"
    secure: str = "auto"
    max_age: int = 0

    def text(self, secure: bool) -> bytes:
        """
        Give what stands behind the cookie's value.

        :param secure: whether the client speaks TLS.
        """
        parts = ["", f"Path={self.path}"]
        if self.domain:
            parts.append(f"Domain={self.domain}")
        if self.max_age:
            parts.append(f"Max-Age={self.max_age}")
        if self.secure == "always" or (secure and self.secure == "auto"):
            parts.append("Secure")
        parts += ["HttpOnly", f"SameSite={self.same_site.capitalize()}"]
        return "; ".join(parts).encode("ascii")


@dataclass(frozen=True)
class GenerationMarks:
    """
    What tokens and responses say of the worker's generation.

    :ivar generation: gives the one that tokens name beside the slot, 0 for none.
    :ivar met: told of each client that is given a token: what the token tells it by; gives what it
        is known by, where workers keep the clients that they know.
    :ivar header: the field of each response that says it; empty for none.
    :ivar shown: gives what it says.
    """

    generation: Callable[[], int] = lambda: 0
    met: Callable[[bytes], bytes | None] = lambda client: None
    header: bytes = b""
    shown: Callable[[], bytes] = lambda: b""


class Stickiness:
    """
    Begins the exchange of each request, and knows what is to be done in it.

    :ivar signer: signs and verifies cookies and stamps; without one there are none.
    :ivar sets_cookie: whether clients are given the cookie.
    """

    _log = Logger()

    def __init__(
        self,
        affinity: Affinity,
        signer: Signer | None,
        own_slot: Callable[[], int],
        claim: ClaimIds,
        trust: Networks,
        cookie: CookieAttributes | None = None,
        marks: GenerationMarks | None = None,
    ) -> None:
        """
        :param own_slot: gives the slot of this worker.
        :param trust: the proxies whose word about their clients counts.
        :param marks: what is said of its generation.
        """
        self.signer = signer
        self.own_slot = own_slot
        self.marks = GenerationMarks() if marks is None else marks
        self.claim = claim
        self.trust = trust
        keys = affinity.keys
        self.cookie = next((key for key in keys if isinstance(key, CookieKey)), None)
        self.cookie_name = b"" if self.cookie is None else self.cookie.name.encode("ascii")
        self.sets_cookie = self.cookie is not None
        # Under a name that nothing else uses, any value is ours to replace.
        self.shares_name = self.sets_cookie and not self.cookie_name.startswith(_OUR_NAMES)
        attributes = CookieAttributes() if cookie is None else cookie
        self.cookie_tails = (attributes.text(False), attributes.text(True))
        self.stamped = frozenset(
            key.header.name.lower().encode("ascii") for key in keys if isinstance(key, StampKey)
        )
        self.learns = any(isinstance(key, LearnKey) for key in keys)
        sources = [key.source for key in keys if isinstance(key, LearnKey)]
        self.learned = {
            source.name.lower().encode("ascii"): source
            for source in sources
            if isinstance(source, HeaderKey)
        }
        self.learned_cookies = {
            source.name.encode("ascii"): source
            for source in sources
            if isinstance(source, CookieKey)
        }

    @property
    def watches_responses(self) -> bool:
        """
        Whether responses may have ids in them, or a cookie of the application's that has the
        name of ours.
        """
        watched = self.stamped or self.learned or self.learned_cookies or self.marks.header
        return bool(watched or (self.shares_name and self.sets_cookie))

    @property
    def needed(self) -> bool:
        """
        Whether there is anything to do.
        """
        return bool(self.cookie or self.stamped or self.learns or self.trust or self.marks.header)

    def is_named(self, token: Named | None) -> bool:
        """
        Whether a token names this worker.
        """
        if token is None or token.slot != self.own_slot():
            return False
        generation = self.marks.generation()
        return not generation or token.generation == generation

    def yield_name(self) -> None:
        """
        Set no cookie any more, as the application sets one of the same name.
        """
        if self.sets_cookie:
            self.sets_cookie = False
            name = self.cookie_name.decode("ascii")
            self._log.warn(
                "The application sets a cookie named {name} itself, so stickyd sets none of that"
                " name any more, and clients do not stay with their workers: write --affinity"
                " {instead}, or any name that the application does not use",
                event="cookie.taken",
                name=name,
                instead="cookie:stickyd" if self.shares_name else f"cookie:{name}-worker",
            )

    def begin(self, host: str, secure: bool, pairs: Pairs) -> Exchange:
        """
        Receive a request.

        :param host: the peer's, as the handoff tells it; empty for a UNIX socket.
        :param secure: whether the peer speaks TLS.
        :param pairs: the fields; names in lower case.
        """
        return Exchange(self, host, secure, pairs)


class _Fields:
    """
    As much of a head as a key needs that stands in a field.
    """

    __slots__ = ("headers",)

    def __init__(self, headers: Pairs) -> None:
        self.headers = headers


class Exchange:
    """
    One request and its response.

    :ivar pairs: the fields that the application shall see.
    :ivar client: the client's host if a trusted proxy tells it, else :obj:`None`.
    :ivar secure: whether the client speaks TLS, with us or with a trusted proxy.
    :ivar names_our_slot: whether a token of the client's, which was verified, names this worker's
        slot, and its generation where tokens do that.
    :ivar met: what the client is known by from its response on, if that gives it a token.
    :ivar claiming: fires when the response may leave; :obj:`None` if it may at once.
    """

    __slots__ = (
        "_stickiness",
        "_strangers",
        "_trusted",
        "_wants_cookie",
        "claiming",
        "client",
        "met",
        "names_our_slot",
        "pairs",
        "secure",
    )

    def __init__(self, stickiness: Stickiness, host: str, secure: bool, pairs: Pairs) -> None:
        self._stickiness = stickiness
        self.pairs = pairs
        self.client: str | None = None
        self.secure = secure
        self.claiming: Deferred[None] | None = None
        self.met: bytes | None = None
        self.names_our_slot = False
        self._trusted = host in stickiness.trust
        if self._trusted:
            origin = origin_of(host, pairs, stickiness.trust)
            self.client = origin.client
            if origin.proto is not None:
                self.secure = origin.proto in ("https", "wss")
        self._strangers: list[bytes] = []
        self._wants_cookie = stickiness.sets_cookie and self._lacks_cookie()
        if stickiness.stamped:
            self._unstamp()

    @property
    def unremarkable(self) -> bool:
        """
        Whether there is nothing to do for this request, nor for any other with the same
        fields of the same peer.
        """
        return not (self._wants_cookie or self._trusted or self._stickiness.watches_responses)

    def _lacks_cookie(self) -> bool:
        """
        Whether the client shall be given the cookie: it has none that names our slot, nor one
        that may be the application's.
        """
        stickiness, signer = self._stickiness, self._stickiness.signer
        assert stickiness.cookie is not None
        values = stickiness.cookie.values_of(cast("Head", _Fields(self.pairs)))[:MOST_VALUES]
        if not values or signer is None:
            return True
        if any(map(stickiness.is_named, map(signer.named_by, values))):
            self.names_our_slot = True
            return False
        if stickiness.shares_name and not all(map(is_cookie, values)):
            return False
        self._strangers = signer.strangers_in(values)
        return True

    def _unstamp(self) -> None:
        signer = self._stickiness.signer
        stamped = self._stickiness.stamped
        if signer is None or not any(name in stamped for name, _ in self.pairs):
            return
        pairs = []
        for name, value in self.pairs:
            found = signer.named_by_stamp(value) if name in stamped else None
            if self._stickiness.is_named(found):
                self.names_our_slot = True
            pairs.append((name, value if found is None else found.client))
        self.pairs = pairs

    def respond(self, pairs: Iterable[tuple[bytes, bytes]], known_by: bytes | None = None) -> Pairs:
        """
        Give the fields that the response shall have.  To be called once, with its head.

        :param pairs: the application's, names in any case.
        :param known_by: what the client is known by, or would be; a cookie that it is given says
            the same, so that its sessions are told to be its own wherever they go.
        """
        stickiness = self._stickiness
        fields = []
        minted: list[bytes] = []
        private = True
        for name, value in pairs:
            known = name.lower()
            if known in stickiness.stamped and stickiness.signer is not None:
                self.met = stickiness.marks.met(value)
                value = stickiness.signer.stamp(
                    value, stickiness.own_slot(), stickiness.marks.generation()
                )
            elif known in stickiness.learned:
                minted.append(learned_id(stickiness.learned[known], value))
            elif known == b"set-cookie":
                cookie, _, rest = value.partition(b"=")
                cookie = cookie.strip(b" \t")
                if stickiness.cookie is not None and cookie == stickiness.cookie_name:
                    # It would overwrite ours, or ours the application's.
                    self._wants_cookie = False
                    stickiness.yield_name()
                source = stickiness.learned_cookies.get(cookie)
                if source is not None:
                    content = rest.partition(b";")[0].strip(b' \t"')
                    if content:
                        minted.append(learned_id(source, content))
            elif known == b"cache-control":
                # A list, which may come in several lines (RFC 9110, 5.3).
                lowered = value.lower()
                private = private and b"public" not in lowered and b"s-maxage" not in lowered
            fields.append((name, value))
        if self._wants_cookie and private:
            # Else a cache could give one client's cookie to all; there will be another
            # response to set it on.
            self._add_cookie(fields, known_by)
        if stickiness.marks.header:
            fields.append((stickiness.marks.header, stickiness.marks.shown()))
        if minted:
            self.claiming = stickiness.claim(minted)
        return fields

    def _add_cookie(self, fields: Pairs, known_by: bytes | None) -> None:
        stickiness = self._stickiness
        slot = stickiness.own_slot()
        if stickiness.signer is None or slot < 0:
            return
        generation = stickiness.marks.generation()
        # Behind the letter that says what kind of mark it is.
        client = b"" if known_by is None else known_by[1:]
        token = stickiness.signer.mint(slot, self._strangers, generation, client).encode("ascii")
        self.met = stickiness.marks.met(token.split(b".", 2)[1])
        line = b"%b=%b%b" % (stickiness.cookie_name, token, stickiness.cookie_tails[self.secure])
        fields.append((b"Set-Cookie", line))
