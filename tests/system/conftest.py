"""
What the system tests are given.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import pytest

from benchmarks.compiling import compile_load
from tests.system.chromium import Browser
from tests.system.ctl import Ctl
from tests.system.gate import Gate
from tests.system.nodejs import install_packages
from tests.system.server import HANDED, Server
from tests.system.wire import Wire, compile_wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from socket import socket


class Start(Protocol):
    """
    Starts a server, see :class:`tests.system.server.Server`.
    """

    def __call__(
        self,
        *arguments: str,
        workers: int = 2,
        listen: str = HANDED,
        variables: Mapping[str, str] | None = None,
        listener: socket | None = None,
        ready: bool = True,
        embedded: bool = False,
        before: Sequence[str] = (),
        twistd_options: Sequence[str] = ("-n", "--pidfile="),
    ) -> Server:
        """
        :param ready: whether to wait until all workers serve.
        """


@pytest.fixture
def start() -> Iterator[Start]:
    """
    Starts servers that must end well: those that the test has not ended are stopped.
    """
    servers: list[Server] = []

    def start_one(
        *arguments: str,
        workers: int = 2,
        listen: str = HANDED,
        variables: Mapping[str, str] | None = None,
        listener: socket | None = None,
        ready: bool = True,
        embedded: bool = False,
        before: Sequence[str] = (),
        twistd_options: Sequence[str] = ("-n", "--pidfile="),
    ) -> Server:
        server = Server(
            *arguments,
            workers=workers,
            listen=listen,
            variables=variables,
            listener=listener,
            embedded=embedded,
            before=before,
            twistd_options=twistd_options,
        )
        servers.append(server)
        if ready:
            server.wait_until_ready()
        return server

    try:
        yield start_one
        for server in servers:
            if server.process.returncode is None:
                server.stop()
    finally:
        for server in servers:
            server.destroy()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """
    A gate for the application to wait at.
    """
    with closing(Gate(tmp_path / "gate")) as made:
        yield made


@pytest.fixture
def ctl(tmp_path: Path) -> Ctl:
    """
    The program, and a directory for the control sockets.
    """
    directory = tmp_path / "run"
    directory.mkdir()
    return Ctl(directory)


@pytest.fixture(scope="session")
def load_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    The load generator of the benchmark, compiled.
    """
    return compile_load(tmp_path_factory.mktemp("load"))


@pytest.fixture(scope="session")
def wire_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    What writes down what a primary's system calls carry, compiled.
    """
    return compile_wire(tmp_path_factory.mktemp("wire"))


@pytest.fixture
def wire(wire_library: Path, tmp_path: Path) -> Wire:
    """
    A record of what passes between the primary of one server and its workers.
    """
    return Wire(wire_library, tmp_path / "wire")


@pytest.fixture(scope="session")
def node_packages() -> None:
    """
    What the programs in ``node/`` need is installed.
    """
    install_packages()


@pytest.fixture(scope="module")
def browser(node_packages: None) -> Iterator[Browser]:
    """
    Chromium.
    """
    with Browser() as started:
        yield started
