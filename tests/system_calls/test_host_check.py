"""
What an operator should know of machine and settings: :mod:`stickyd.system.host_check`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from stickyd.settings import Settings
from stickyd.system.host_check import Host, findings

FINE = Host(2**20, 4096, 1)


def test_nothing_to_say() -> None:
    """
    A server on a machine that is set up well; where there is no /proc, nothing is known.
    """
    assert findings(Settings(), FINE) == []
    assert findings(Settings.read({"steering": "auto"}), Host(2**20, None, None)) == []
    assert Host.here().files > 0


@pytest.mark.parametrize(
    ("given", "host", "says"),
    [
        ({}, Host(1024, 4096, 1), "the limit of open files is 1024.*LimitNOFILE=65536"),
        ({}, Host(2**20, 128, 1), "net.core.somaxconn is 128.*sysctl -w net.core.somaxconn=4096"),
        (
            {"steering": "kernel", "listen": "tcp:3000"},
            *(Host(2**20, 4096, 0), "tcp_migrate_req is 0.*sysctl -w net.ipv4.tcp_migrate_req=1"),
        ),
        ({"affinity": "cookie:session"}, FINE, "Flask and Starlette set a cookie of that name"),
        (
            {"protocol": "chat:Factory", "affinity": "cookie:stickyd,ip"},
            *(FINE, "--affinity cookie:stickyd with --protocol: the client has to speak first"),
        ),
        ({"trust": "10.0.0.0/8,::/0"}, FINE, "--trust ::/0: everybody may say who they are"),
        (
            {"admin": "tcp:9100", "admin_public": "on", "admin_token_file": "/absent"},
            *(FINE, "--admin-public on: other machines reach"),
        ),
    ],
)
def test_what_is_said(given: dict[str, Any], host: Host, says: str) -> None:
    """
    One line each, with what to do.
    """
    (line,) = findings(Settings.read(given), host)
    assert "\n" not in line
    assert re.search(says, line), line


def test_secrets_that_all_can_read(tmp_path: Path) -> None:
    """
    A file of secrets is its owner's alone; one that is not there is told elsewhere.
    """
    secret = tmp_path / "secret"
    secret.write_text("a secret that is long enough\n")
    settings = Settings.read({"affinity": "cookie:stickyd", "secret_file": str(secret)})
    secret.chmod(0o644)
    (line,) = findings(settings, FINE)
    assert line == f"--secret-file {secret}: any user of this machine has it: chmod 600 {secret}"
    secret.chmod(0o600)
    assert findings(settings, FINE) == []
    secret.unlink()
    assert findings(settings, FINE) == []
