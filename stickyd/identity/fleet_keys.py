"""
Keys that all workers of a fleet share: ``stickyd.secret()``.
"""

from __future__ import annotations

import hmac
import secrets as random_secrets
from typing import TYPE_CHECKING

from stickyd.affinity.minted_ids import MintedIds
from stickyd.affinity.token import merged
from stickyd.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY_BYTES = 32
"""
How long a derived key is.
"""

MOST_LABEL_BYTES = 255
"""
How long a label may be.
"""

#: Nothing else is derived with it: not the keys of tokens, which have salts of their own.
_SALT = b"stickyd.secret"


class FleetKeys:
    """
    Derives keys from the fleet's secrets; from one of this process alone, outside of a worker.
    Usable from any thread.

    :ivar minted_ids: mints ids that they sign.
    """

    def __init__(self) -> None:
        self._secrets: tuple[bytes, ...] = (random_secrets.token_bytes(KEY_BYTES),)
        self.minted_ids = MintedIds(self._secrets)

    def begin(self, secrets: Sequence[bytes]) -> None:
        """
        Called in a worker before it imports the application.

        :param secrets: the fleet's, the first of which is in use; none if it has none.
        """
        if secrets:
            self._secrets = tuple(secrets)
            self.minted_ids = MintedIds(self._secrets)

    def know_also(self, secrets: Sequence[bytes]) -> None:
        """
        Called when others are about to use these secrets.
        """
        self._secrets = merged(self._secrets, secrets)

    def keys_of(self, label: str | bytes) -> list[bytes]:
        """
        Give the keys of a label: one for each secret.

        HKDF with SHA-256 (RFC 5869): a key says nothing about the secret, nor about the key of
        any other label.

        :return: the one in use first.
        :raises stickyd.errors.ApplicationError: if the label is empty or too long.
        """
        text = label.encode() if isinstance(label, str) else bytes(label)
        if not 1 <= len(text) <= MOST_LABEL_BYTES:
            raise ApplicationError(
                f"stickyd.secret(): a label of {len(text)} bytes; name what the key is for, in"
                f" 1 to {MOST_LABEL_BYTES} bytes, as in stickyd.secret('mcp request state')"
            )
        return [_derived(secret, text) for secret in self._secrets]


def _derived(secret: bytes, label: bytes) -> bytes:
    extracted = hmac.digest(_SALT, secret, "sha256")
    # One block of the expansion is as long as the key.
    return hmac.digest(extracted, label + b"\x01", "sha256")
