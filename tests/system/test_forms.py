"""
Fault 34: a form that nobody asks for costs nothing, whatever is served.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.system.conftest import Start
    from tests.system.server import Server

MIB = 1 << 20


def most_resident_bytes(pid: int) -> int:
    """
    The most memory that a process has ever had (proc(5)).
    """
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+([0-9]+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def upload(server: Server, megabytes: int) -> bytes:
    """
    Post a multipart form whose one file is line ends.

    :return: the first line of the response.
    """
    head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    tail = b"--b--\r\n"
    length = len(head) + megabytes * MIB + len(tail)
    with socket.create_connection(server.target, timeout=60) as sock:
        sock.sendall(
            b"POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n" % length
        )
        sock.sendall(head)
        for _ in range(megabytes):
            sock.sendall(b"\r\n" * (MIB // 2))
        sock.sendall(tail)
        return sock.makefile("rb").readline()


@pytest.mark.parametrize(
    "application",
    [
        ("--static", "."),
        ("--wsgi", "tests.system.test_forms:counted"),
        ("--resource", "tests.system.apps:mirror"),
    ],
)
def test_upload_costs_no_memory(start: Start, application: tuple[str, str]) -> None:
    """
    Fault 34: an upload of 100 MB is kept in a file, and not looked at.
    """
    server = start(*application, workers=1)
    worker = server.worker(0)
    upload(server, 1)
    before = most_resident_bytes(worker)
    assert upload(server, 100).startswith(b"HTTP/1.1 ")
    assert most_resident_bytes(worker) - before < 40 * MIB


def counted(environ: dict, start_response: object) -> list[bytes]:  # type: ignore[type-arg]
    """
    A WSGI application that does not read its body.
    """
    start_response("200 OK", [("Content-Type", "text/plain")])  # type: ignore[operator]
    return [b"ok"]
