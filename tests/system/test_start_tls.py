"""
Protocols that start TLS on a connection that has begun without.
"""

from __future__ import annotations

import smtplib
from typing import TYPE_CHECKING

from tests.system.log import PATIENCE
from tests.tls_harness import client_context, write_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start


def test_fault_42_mail_server_starts_tls(start: Start, tmp_path: Path) -> None:
    """
    Fault 42: twisted.mail offers STARTTLS, and Python's client goes on with it encrypted.
    """
    certificate = write_certificate(tmp_path, "server", "localhost")
    server = start(
        "--protocol",
        "tests.system.frameworks.mail:factory",
        variables={"MAIL_CERTIFICATE": certificate},
    )
    with smtplib.SMTP("127.0.0.1", server.port, timeout=PATIENCE) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        code, _ = client.starttls(context=client_context())
        assert code == 220
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.rset()[0] == 250
        assert client.sock is not None
        assert client.sock.version() == "TLSv1.3"  # type: ignore[attr-defined]  # it is one of ssl
