"""
Signed slots: the value of the sticky cookie, and the stamp on an application's own ids.

The value of a cookie is a list of tokens, ours first: browsers send a cookie to all ports
of a host, so another stickyd there may have put its own into the cookie of the same name, and
each keeps what the others have written.  A token of another one is like a forged one.

Cookie and stamp name a slot in the clear, so that no table is needed to find it, and are signed, so
that a client cannot choose its worker.  Where clients stay with the worker that knows them
(``--reload-mode client``) they also name its *generation*, and the run of the primary that counted
it; a token of another run, or without a generation, is one of generation 0, which nobody has.
The signing is itsdangerous's: HMAC with SHA-256, with a key derived for each of the two uses, so
that one is never taken for the other.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import itsdangerous

from stickyd.affinity.minted_ids import MintedIds
from stickyd.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SHORTEST_SECRET_BYTES = 16
"""
How many bytes a secret has at least: 128 bits, as much as nobody can search through.
"""

MOST_STRANGERS = 7
"""
How many tokens of others a cookie keeps, the newest first.
"""

_SEPARATOR = b"~"  # in no token, and safe in a cookie and a URL
_MEMO = 8192  # a client sends the same token with every request, and verifying costs 10 us
# Checked before the signature: decoding base64 skips what is no base64, so there would be
# any number of spellings of one signature.
_TAIL = r"(0|[1-9][0-9]{0,4})(?:-([1-9][0-9]{0,8})-([0-9a-f]{8}))?%s\.[A-Za-z0-9_-]{43}"
_COOKIE = re.compile((_TAIL % r"\.([A-Za-z0-9_-]{1,64})").encode())
# As random_id() makes it.  What an application names its clients by, which is rarely of that
# shape, is not put into a cookie.
_CLIENT = re.compile(rb"[A-Za-z0-9_-]{16}")
_STAMP = re.compile((r"(.*)\.(~?)" + _TAIL % "").encode(), re.DOTALL)
_VISIBLE = re.compile(rb"[\x21-\x7e]*")


class Named(NamedTuple):
    """
    What a verified token names.

    :ivar slot: a slot, which need not exist any more.
    :ivar generation: of the worker that issued it; 0 if that is not known.
    :ivar client: what tells this client from all others of the worker.
    """

    slot: int
    generation: int
    client: bytes


def random_id() -> str:
    """
    Make an id of 96 random bits, in 16 characters that are safe in cookies and URLs.
    """
    return secrets.token_urlsafe(12)


class Signer:
    """
    Signs and verifies slots, for the whole process.

    :ivar secrets: the first signs, all of them verify.
    """

    def __init__(
        self,
        secrets: Sequence[bytes],
        make_id: Callable[[], str] = random_id,
        node: str = "",
        run: str = "00000000",
    ) -> None:
        """
        :param secrets: as :meth:`replace` takes them.
        :param make_id: gives each cookie its random part.
        :param node: what this machine is called: a minted id of another one is none of ours.
        :param run: names the run of the primary whose generations count, in eight
            hexadecimal digits.
        :raises SettingError: if there is no secret, or one is too short.
        """
        self._make_id = make_id
        self._node = node
        self._run = run
        self.replace(secrets)

    def replace(self, secrets: Sequence[bytes]) -> None:
        """
        Sign and verify with these secrets from now on.

        :param secrets: each of at least :data:`SHORTEST_SECRET_BYTES` bytes.  The first signs, all
            of them verify; so a secret is replaced by putting the new one first, and dropped
            when its tokens need not be known any more.
        :raises SettingError: if there is no secret, or one is too short; nothing changes then.
        """
        if not secrets:
            raise SettingError("--secret-file: no secret is given; write one of 16 bytes or more")
        for number, key in enumerate(secrets, 1):
            if len(key) < SHORTEST_SECRET_BYTES:
                raise SettingError(
                    f"--secret-file: secret {number} has {len(key)} bytes, which can be guessed; "
                    f"write {SHORTEST_SECRET_BYTES} or more, for example from: openssl rand -hex 32"
                )
        self.secrets = tuple(secrets)
        self._cookies = _signer(secrets, b"stickyd.cookie")
        self._stamps = _signer(secrets, b"stickyd.stamp")
        self._minted = MintedIds(secrets)
        # What raises is not remembered, so forged values cannot push out the others.
        self._read_cookie = lru_cache(_MEMO)(self._parse_cookie)
        self._read_stamp = lru_cache(_MEMO)(self._parse_stamp)

    def verify_also(self, secrets: Sequence[bytes]) -> None:
        """
        Take tokens for good that are signed with these secrets too; ours go on signing.
        """
        self.replace(merged(self.secrets, secrets))

    def new_id(self) -> bytes:
        """
        Make what a cookie tells its client by, for :meth:`mint`.
        """
        return self._make_id().encode("ascii")

    def mint(
        self,
        slot: int,
        strangers: Iterable[bytes] = (),
        generation: int = 0,
        client: bytes = b"",
    ) -> str:
        """
        Make the value of a sticky cookie: ``slot.random.signature``, or
        ``slot-generation-run.random.signature``.

        All of it is safe in a cookie and in a URL (RFC 3986, section 2.3).

        :param strangers: what :meth:`strangers_in` gave of the cookie that it replaces.
        :param client: what it tells the client by, as :meth:`new_id` makes it; a new one by
            default, and instead of anything else.
        """
        made = client.decode("ascii") if _CLIENT.fullmatch(client) else self._make_id()
        token = self._cookies.sign(f"{self._home(slot, generation)}.{made}")
        return _SEPARATOR.join((token, *strangers)).decode("ascii")

    def strangers_in(self, values: Iterable[bytes]) -> list[bytes]:
        """
        Give the tokens in cookies of one name that are not ours.

        :param values: of all cookies of the name.
        """
        found: dict[bytes, None] = {}
        for value in values:
            for token in value.split(_SEPARATOR)[: MOST_STRANGERS + 1]:
                if _COOKIE.fullmatch(token) and self.slot_of(token) is None:
                    found[token] = None
        return list(found)[:MOST_STRANGERS]

    def slot_of(self, value: bytes) -> int | None:
        """
        Give the slot that the value of a sticky cookie names; None as :meth:`named_by`.
        """
        named = self.named_by(value)
        return None if named is None else named.slot

    def named_by(self, value: bytes) -> Named | None:
        """
        Read the value of a sticky cookie.

        :return: what it names; None if the value is forged, or was signed with a secret that is
            no longer known.
        """
        try:
            return self._read_cookie(value)
        except itsdangerous.BadSignature:
            return None

    def _parse_cookie(self, value: bytes) -> Named:
        for token in value.split(_SEPARATOR)[: MOST_STRANGERS + 1]:
            with suppress(itsdangerous.BadSignature):
                slot, generation, run, client = _verified(self._cookies, _COOKIE, token).groups()
                return Named(int(slot), self._known(generation, run), client)
        raise itsdangerous.BadSignature("none of the tokens is ours")

    def slot_of_minted(self, value: bytes) -> int | None:
        """
        Read an id that :func:`stickyd.mint` has made.

        :return: the slot, which need not exist any more; None if the id is none of ours.
        """
        named = self.named_by_minted(value)
        return None if named is None else named.slot

    def named_by_minted(self, value: bytes) -> Named | None:
        """
        The same, with all that the id names; it tells its client itself.
        """
        home = self._minted.home_of(value)
        if home is None or home[1] not in ("", self._node):
            return None
        slot, _, generation, run = home
        return Named(slot, generation if run == self._run[:4] else 0, value)

    def _home(self, slot: int, generation: int) -> str:
        return f"{slot}-{generation}-{self._run}" if generation else f"{slot}"

    def _known(self, generation: bytes | None, run: bytes | None) -> int:
        return int(generation) if generation and run == self._run.encode() else 0

    def stamp(self, identifier: bytes, slot: int, generation: int = 0) -> bytes:
        """
        Append the signed slot, and the generation if there is one, to an id that the application
        minted.

        The result is visible ASCII, as MCP wants its session ids.  So is nearly every
        id, and it then stands there as it is; any other is base64 in the stamped form,
        which a tilde before the slot tells.
        """
        home = self._home(slot, generation).encode()
        if _VISIBLE.fullmatch(identifier):
            return self._stamps.sign(b"%b.%b" % (identifier, home))
        return self._stamps.sign(b"%b.~%b" % (urlsafe_b64encode(identifier), home))

    def unstamp(self, value: bytes) -> tuple[bytes, int] | None:
        """
        Take a stamp off.

        :return: the application's id and the slot, which may be gone by now; None if the
            value is not one that we stamped.
        """
        named = self.named_by_stamp(value)
        return None if named is None else (named.client, named.slot)

    def named_by_stamp(self, value: bytes) -> Named | None:
        """
        Read a stamped id: what its stamp names, whose client is the application's id.

        :return: None as :meth:`unstamp`.
        """
        try:
            return self._read_stamp(value)
        except itsdangerous.BadSignature:
            return None

    def _parse_stamp(self, value: bytes) -> Named:
        groups = _verified(self._stamps, _STAMP, value).groups()
        identifier, encoded, slot, generation, run = groups
        client = urlsafe_b64decode(identifier) if encoded else identifier
        return Named(int(slot), self._known(generation, run), client)


def merged(known: Sequence[bytes], more: Sequence[bytes]) -> tuple[bytes, ...]:
    """
    Give the secrets of both; the first of ``known`` goes on signing.
    """
    return (*known, *(secret for secret in more if secret not in known))


def is_cookie(value: bytes) -> bool:
    """
    Tell whether the value of a cookie looks like one that a stickyd has set, this one or
    another.
    """
    return all(_COOKIE.fullmatch(token) for token in value.split(_SEPARATOR))


def _signer(keys: Sequence[bytes], salt: bytes) -> itsdangerous.Signer:
    # itsdangerous signs with the last key of its list.
    return itsdangerous.Signer(
        list(reversed(keys)), salt=salt, key_derivation="hmac", digest_method=hashlib.sha256
    )


def _verified(
    signer: itsdangerous.Signer, shape: re.Pattern[bytes], value: bytes
) -> re.Match[bytes]:
    match = shape.fullmatch(value)
    if match is None:
        raise itsdangerous.BadSignature("not the shape of a token")
    signer.unsign(value)
    return match
