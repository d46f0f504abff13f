"""
A mail server that offers STARTTLS, as twisted.mail has it.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.protocol import Factory
from twisted.internet.ssl import PrivateCertificate
from twisted.mail.smtp import ESMTP


class Mail(Factory):
    """
    Knows its certificate.
    """

    protocol = ESMTP

    def __init__(self) -> None:
        certificate, _, key = os.environ["MAIL_CERTIFICATE"].partition(",")
        pem = Path(certificate).read_bytes() + Path(key).read_bytes()
        self._context = PrivateCertificate.loadPEM(pem).options()

    def buildProtocol(self, addr: object) -> ESMTP:  # noqa: N802 - Twisted's name
        """
        Make a server that can start TLS.
        """
        protocol = ESMTP(contextFactory=self._context)
        protocol.factory = self
        return protocol


factory = Mail()
