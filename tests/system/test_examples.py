"""
What the project hands out to be copied runs as it stands.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.system.client import Client
from tests.system.log import Log
from tests.system.server import ROOT, environment, twistd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.conftest import Start

#: Where the examples listen when nobody else shall meet them.
ANYWHERE = "tcp:0:interface=127.0.0.1"


@contextmanager
def running(*command: str, cwd: Path = ROOT) -> Iterator[Log]:
    """
    Run a program that stickyd is a part of, until two workers are online; then stop it,
    which must be a clean end.

    :return: its log.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(), cwd=cwd
    )
    assert process.stdout is not None
    log = Log(process.stdout, lambda line: None)
    try:
        log.wait_for(r"Worker \d+ online", count=2)
        yield log
        process.terminate()
        process.wait(20)
    finally:
        process.kill()
        process.wait()


def test_application_file_serves(tmp_path: Path) -> None:
    """
    ``tap/stickyd.tac`` serves the demonstration, but for the port that is free here.
    """
    text = (ROOT / "tap/stickyd.tac").read_text()
    port = '["--port", "3000"]'
    assert port in text
    copy = tmp_path / "stickyd.tac"
    copy.write_text(text.replace(port, f'["--listen", "{ANYWHERE}", "--workers", "2"]'))
    with running(*twistd("-ny", str(copy), "--pidfile=")) as log:
        found = log.wait_for(r"listening on \S+ \(127\.0\.0\.1:(\d+)\)")
        with Client(("127.0.0.1", int(found[1]))) as client:
            assert [client.ask().counted[1] for _ in range(3)] == [1, 2, 3]


def test_embedded_example_serves_beside_its_own_service() -> None:
    """
    ``docs/examples/embedded.py`` serves the demonstration, and its own service tells how
    many workers serve.
    """
    program = str(ROOT / "docs/examples/embedded.py")
    with running(sys.executable, program, ANYWHERE, ANYWHERE) as log:
        found = log.wait_for(r"listening on \S+ \(127\.0\.0\.1:(\d+)\)")
        with Client(("127.0.0.1", int(found[1]))) as client:
            assert [client.ask().counted[1] for _ in range(3)] == [1, 2, 3]
        health = log.wait_for(r"Site \(?.*starting on (\d+)|Site starting on (\d+)")
        with Client(("127.0.0.1", int(health[1] or health[2]))) as client:
            assert client.ask().body == b"2 of 2 workers serve\n"


def test_resource_example_counts_by_session(start: Start) -> None:
    """
    ``docs/examples/visits.py`` counts the visits of a cookie, wherever they come from.
    """
    server = start(
        "--resource", "visits:root", variables={"PYTHONPATH": f"{ROOT}:{ROOT}/docs/examples"}
    )
    with Client(server.target) as client:
        client.send()
        response = client.response()
        cookie = response.headers["Set-Cookie"].partition(";")[0]
        assert response.read().startswith(b"Visit 1, ")
        client.socket.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: %b\r\n\r\n" % cookie.encode()
        )
        assert client.answer().body.startswith(b"Visit 2, ")
