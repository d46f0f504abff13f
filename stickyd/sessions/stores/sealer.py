"""
Encrypting the data of records: ``--session-key-file``.

AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits for each record, and a key that
HKDF (RFC 5869) derives from the secret under a label of its own, so that a secret may serve
elsewhere too.  A record is bound to the hash of its id and to its version: one that was put in
another's place, or a former one put back under a later version, cannot be read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stickyd.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LABEL = b"stickyd session record 1"
_MARK = b"\x01"
_NONCE_BYTES = 12


class UnreadableRecord(Exception):
    """
    The data of a record is not what we have written under that id and version.
    """


class Sealer:
    """
    Encrypts and decrypts, or leaves data as they are if there is no secret.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        """
        :param secrets: the first encrypts, each decrypts; none to leave everything as it is.
        :raises SettingError: if there are some, and the package for it is not installed.
        """
        self._ciphers = [_cipher(secret) for secret in secrets]

    def seal(self, name: bytes, version: int, data: bytes) -> bytes:
        """
        Encrypt.

        :param name: the hash of the id.
        """
        if not self._ciphers:
            return data
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self._ciphers[0].encrypt(nonce, data, _bound_to(name, version))
        return _MARK + nonce + sealed

    def open(self, name: bytes, version: int, data: bytes) -> bytes:
        """
        Decrypt.

        :raises UnreadableRecord: if none of the secrets did encrypt it, for this id and version;
            also what is not encrypted where there is a secret: anybody could have written it.
        """
        sealed = data[: len(_MARK)] == _MARK
        if sealed != bool(self._ciphers):
            raise UnreadableRecord(
                "it is encrypted, and there is no --session-key-file"
                if sealed
                else "it is not encrypted, though there is a --session-key-file"
            )
        if not sealed:
            return data
        from cryptography.exceptions import InvalidTag

        nonce, text = data[1 : 1 + _NONCE_BYTES], data[1 + _NONCE_BYTES :]
        for cipher in self._ciphers:
            try:
                opened: bytes = cipher.decrypt(nonce, text, _bound_to(name, version))
            except (InvalidTag, ValueError):
                continue
            return opened
        raise UnreadableRecord("no key of --session-key-file opens it under this id and version")


def _bound_to(name: bytes, version: int) -> bytes:
    return name + version.to_bytes(8, "big")


def _cipher(secret: bytes):  # type: ignore[no-untyped-def]
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ModuleNotFoundError:
        raise SettingError(
            "--session-key-file needs cryptography, which is not installed: pip install"
            " 'stickyd[tls]'"
        ) from None
    return AESGCM(HKDF(SHA256(), 32, None, _LABEL).derive(secret))
