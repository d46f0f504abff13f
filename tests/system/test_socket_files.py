"""
The files of UNIX sockets: who makes one removes it, and nobody else touches it.
"""

from __future__ import annotations

import socket
import stat
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.conftest import Start


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[tuple[Path, socket.socket]]:
    """
    A socket as a service manager makes it, for its own group alone.
    """
    path = tmp_path / "managed.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen()
        yield path, listener


def status_over(path: Path) -> int:
    """
    The status of one request over a socket.
    """
    with Client(str(path)) as client:
        return client.ask().status


def test_fault_28_socket_of_the_service_manager_stays(
    start: Start, managed: tuple[Path, socket.socket]
) -> None:
    """
    Fault 28: a socket that was passed is as it was after a stop, also after an upgrade, and
    the next start goes on with it.
    """
    path, listener = managed
    before = path.stat()
    for upgrade in (False, True):
        server = start(listen="systemd:domain=UNIX:index=0", listener=listener, workers=1)
        assert status_over(path) == 200
        if upgrade:
            server.upgrade()
            assert status_over(path) == 200
        server.stop()
        after = path.stat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert stat.S_IMODE(before.st_mode) == 0o660


def test_fault_28_own_socket_leaves_nothing(start: Start, tmp_path: Path) -> None:
    """
    Fault 28: a ``unix:`` endpoint's file and its lock file are gone after a stop, and after an
    upgrade and a stop; its mode survives the upgrade.
    """
    path = tmp_path / "own.sock"
    for upgrade in (False, True):
        server = start(listen=f"unix:{path}:mode=600", workers=1)
        assert status_over(path) == 200
        if upgrade:
            server.upgrade()
            assert status_over(path) == 200
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        server.stop()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("systemd:domain=INET:index=0", "that socket is of another domain; write domain=UNIX"),
        ("systemd:domain=UNIX:index=0", "that socket does not listen for connections"),
    ],
)
def test_fault_28_passed_socket_of_another_kind(
    start: Start, managed: tuple[Path, socket.socket], tmp_path: Path, listen: str, says: str
) -> None:
    """
    Fault 28: a socket that cannot be served is named in one line, and stays too.
    """
    path, listener = managed
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "other.sock"))
        server = start(
            listen=listen, listener=listener if "INET" in listen else other, ready=False, workers=1
        )
        server.allow("cannot listen on")
        server.log.wait_for(f"stickyd: cannot listen on {listen}: {says}")
        assert server.wait_until_gone() == 1
        server.check_nothing_left()
    assert path.exists()


def test_fault_28_file_stays_when_another_endpoint_fails(
    start: Start, managed: tuple[Path, socket.socket]
) -> None:
    """
    Fault 28: a start that fails after the socket was taken leaves it too.
    """
    path, listener = managed
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start(
            "--listen",
            f"tcp:{port}:interface=127.0.0.1",
            listen="systemd:domain=UNIX:index=0",
            listener=listener,
            ready=False,
            workers=1,
        )
        server.allow("cannot listen on")
        server.log.wait_for("Address already in use")
        assert server.wait_until_gone() == 1
        server.check_nothing_left()
    assert path.exists()
