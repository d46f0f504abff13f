"""
Certificates made at test time, and a TLS client that is driven turn by turn.
"""

from __future__ import annotations

import datetime
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.transport_harness import Drive


def write_certificate(
    folder: Path, stem: str, *names: str, password: bytes | None = None, common: str = "test"
) -> str:
    """
    Make a self-signed certificate and its key.

    :return: ``CERTIFICATE.pem,KEY.pem``.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    certificate_file = folder / f"{stem}.pem"
    key_file = folder / f"{stem}.key"
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return f"{certificate_file},{key_file}"


def client_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """
    Make a client that believes every certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class TlsClient:
    """
    OpenSSL's client, on a socket, in the test's own loop.

    :ivar tls: what the standard library knows of the connection.
    """

    def __init__(
        self,
        drive: Drive,
        sock: socket.socket,
        context: ssl.SSLContext,
        name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._drive = drive
        self._socket = sock
        self._socket.setblocking(False)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._pending = b""
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=name, session=session
        )

    def shake_hands(self) -> None:
        self._until(self.tls.do_handshake)

    def shake_hands_and_send(self, data: bytes) -> None:
        """
        Send the first bytes behind the end of the handshake, in one packet.
        """

        def step() -> None:
            self.tls.do_handshake()
            self.tls.write(data)

        self._until(step)

    def certificate_names(self) -> list[str]:
        """
        Tell what the server's certificate is for.
        """
        encoded = self.tls.getpeercert(binary_form=True)
        assert encoded is not None
        certificate = x509.load_der_x509_certificate(encoded)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return extension.value.get_values_for_type(x509.DNSName)

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self._pump()

    def read(self, count: int) -> bytes:
        """
        Read bytes; fewer if the server ends the TLS connection properly.
        """
        received = bytearray()

        def step() -> bool:
            try:
                data = self.tls.read(min(count - len(received), 65536))
            except ssl.SSLZeroReturnError:
                data = b""
            received.extend(data)
            return not data or len(received) == count

        self._until(step)
        return bytes(received)

    def end_output(self) -> None:
        """
        Say close_notify, and shut the sending side of the socket down; go on reading.
        """
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        while True:
            self._pump()
            if not self._pending:
                break
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def _until(self, step: Callable[[], object]) -> None:
        def done() -> bool:
            self._pump()
            try:
                return step() is not False
            except ssl.SSLWantReadError:
                return False
            finally:
                self._pump()

        self._drive.until(done)

    def _pump(self) -> None:
        self._pending += self._outgoing.read()
        try:
            if self._pending:
                self._pending = self._pending[self._socket.send(self._pending) :]
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
