"""
What the RFCs want of a server that speaks HTTP/2, under every kind of key.
"""

from __future__ import annotations

import ssl
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.http2_conformance import CASES, Talk
from tests.system.client import Client
from tests.system.log import PATIENCE
from tests.tls_harness import client_context, write_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http2_conformance.talk import Pairs
    from tests.system.conftest import Start

APPLICATION = ("--resource", "tests.system.frameworks.tellers:resource")

#: Keys, and the fields by which a request belongs to one slot or another: the first connections
#: go to one worker, so that of several users some stay there and some are passed on.
KEYS: dict[str, list[Pairs]] = {
    "ip": [[]],
    "cookie:stickyd": [[]],
    "header:X-User,ip": [[("x-user", f"user{number}")] for number in range(3)],
    "learn:header:X-Id": [[]],
}


def converse(server_target: object, name: str, extra: Pairs) -> None:
    """
    Have one conversation on a connection of its own.
    """
    plain = Client(server_target)  # type: ignore[arg-type]  # what a Server has
    context = client_context()
    context.set_alpn_protocols(["h2"])
    with closing(context.wrap_socket(plain.socket, server_hostname="localhost")) as sock:
        sock.settimeout(PATIENCE)

        def say(data: bytes) -> None:
            try:
                sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                pass  # what it said before is still to be read

        def hear() -> bytes:
            try:
                return sock.recv(65536)
            except (ConnectionResetError, ssl.SSLError):
                return b""

        CASES[name](Talk(say, hear, extra))


@pytest.mark.parametrize("affinity", KEYS)
def test_fault_12_conformance(affinity: str, start: Start, tmp_path: Path) -> None:
    """
    Fault 12: the same is right under every key, wherever a connection is served.
    """
    certificate = write_certificate(tmp_path, "server", "localhost")
    server = start(
        *APPLICATION, "--affinity", affinity, "--tls", certificate, "--http2", "on", workers=2
    )
    server.allow("of the new connections have the affinity key")
    wrong = {}
    for name in CASES:
        for extra in KEYS[affinity]:
            try:
                converse(server.target, name, extra)
            except (AssertionError, TimeoutError) as problem:
                wrong[name, str(extra)] = repr(problem)
    assert wrong == {}
