"""
Certificates for TLS: from PEM files to an OpenSSL context.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL._util import lib as openssl

from stickyd.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

# Mozilla's "intermediate" profile (server side TLS guidelines 5.7) less DHE, which would
# need parameters of its own and serves no client that lacks ECDHE.  TLS 1.3 has suites
# of its own, all of them good.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL:!MD5:!DSS:!PSK:!SRP"

# Mozilla's groups for the same profile (version 6.0).  OpenSSL's own choice has X448,
# secp521r1 and finite fields as well: slow, and no client needs them.  A release before 3.5
# knows no X25519MLKEM768, and takes the list without it.
_GROUPS = (b"X25519MLKEM768:X25519:prime256v1:secp384r1", b"X25519:prime256v1:secp384r1")

_WRITE = "write CERTIFICATE.pem or CERTIFICATE.pem,KEY.pem"


class NoCommonProtocol(SSL.Error):
    """
    Client's: it offers protocols by ALPN, and none that is spoken here.

    OpenSSL tells it so (RFC 7301, section 3.2), and the handshake fails with this.
    """


@dataclass(frozen=True)
class Certificate:
    """
    A certificate with its chain and key, ready for use.

    :ivar names: the host names that it is for, in lower case; ``*.`` may stand first.
    :ivar context: what OpenSSL makes connections of.
    """

    names: tuple[str, ...]
    context: SSL.Context

    def serves(self, name: str) -> bool:
        """
        Tell whether it is for a host.

        A wildcard stands for exactly one label (RFC 6125, 6.4.3).
        """
        _, _, parent = name.partition(".")
        return name in self.names or (bool(parent) and f"*.{parent}" in self.names)


def load_certificate(pair: str, protocols: Sequence[bytes]) -> Certificate:
    """
    Read a certificate and its key.

    :param pair: ``CERTIFICATE.pem,KEY.pem``, or one file that holds both.  The chain
        follows the certificate in its file.
    :param protocols: for ALPN, the preferred one first; a client that offers others only is
        refused.  Without any, what a client offers is ignored.
    :raise SettingError: if that is not what the files hold.
    """
    where, _, key_where = pair.partition(",")
    certificates = _read_chain(where)
    key = _read_key(key_where or where, own_file=bool(key_where))
    if _public_bytes(certificates[0].public_key()) != _public_bytes(key.public_key()):
        raise SettingError(
            f"TLS: the key in {key_where or where!r} does not belong to the first certificate in "
            f"{where!r}; put the server's own certificate first, or name the key made for it"
        )
    return Certificate(_names(certificates[0]), _context(where, key_where or where, protocols))


def _read(where: str) -> bytes:
    try:
        return Path(where).read_bytes()
    except OSError as error:
        raise SettingError(
            f"TLS: cannot read {where!r} ({error.strerror}); {_WRITE}, files that the "
            "worker may read"
        ) from error


def _read_chain(where: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(where))
    except ValueError as error:
        raise SettingError(
            f"TLS: {where!r} holds no certificate in PEM form; {_WRITE}, the certificate "
            "beginning with -----BEGIN CERTIFICATE-----"
        ) from error


def _read_key(where: str, own_file: bool) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_read(where), password=None)
    except TypeError as error:
        raise SettingError(
            f"TLS: the key in {where!r} is encrypted, and nobody is there to type a "
            f"password; decrypt it with: openssl pkey -in {where} -out KEY.pem"
        ) from error
    except ValueError as error:
        advice = "name a key in PEM form" if own_file else _WRITE
        raise SettingError(f"TLS: {where!r} holds no private key in PEM form; {advice}") from error


def _public_bytes(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]  # every kind of key has it
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        # The subject's name counts only for certificates that have none (RFC 6125, 6.4.4).
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(attribute.value).lower() for attribute in common)
    return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))


def _context(where: str, key_where: str, protocols: Sequence[bytes]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    # Idle connections give their record buffers back, about 34 KiB each.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(_CIPHERS)
    _set_groups(context)
    try:
        context.use_certificate_chain_file(where)
        context.use_privatekey_file(key_where)
    except SSL.Error as error:
        raise SettingError(
            f"TLS: OpenSSL refuses the certificate in {where!r} or the key in {key_where!r} "
            f"({error}); use an RSA key of 2048 bits or more, an EC or an Ed25519 one"
        ) from error
    # Sessions are resumed by tickets, which this context's own random key encrypts: a
    # client comes back to the same worker, so no other needs to read them.  (OpenSSL wants
    # the id as soon as an application asks for client certificates.)
    context.set_session_id(b"stickyd")
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)

    if protocols:

        def choose(connection: SSL.Connection, offered: list[bytes]) -> bytes:
            for protocol in protocols:
                if protocol in offered:
                    return protocol
            raise NoCommonProtocol([("ALPN", "", f"the client offers only {offered!r}")])

        context.set_alpn_select_callback(choose)
    return context


def _set_groups(context: SSL.Context) -> None:
    # pyOpenSSL has no method for it; Twisted's own options reach for the library as well.
    for groups in _GROUPS:
        if openssl.SSL_CTX_set1_curves_list(context._context, groups) == 1:
            return
        openssl.ERR_clear_error()
