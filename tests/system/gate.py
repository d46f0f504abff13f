"""
A gate that the application under test waits at, until the test opens it.
"""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

from tests.system.log import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

#: The variable of the environment that tells an application where its gate is.
VARIABLE = "STICKYD_TEST_GATE"


class Gate:
    """
    The test's side.  Somebody who arrives connects to a UNIX socket, and waits until
    its connection is closed.  Close the gate too.
    """

    def __init__(self, path: Path) -> None:
        """
        :param path: where the socket is made.
        """
        self.variables = {VARIABLE: str(path)}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.bind(str(path))
        self._socket.listen()
        self._waiting: list[socket.socket] = []

    def wait_for_arrival(self) -> None:
        """
        Wait until one more has arrived.
        """
        arrived, _ = self._socket.accept()
        self._waiting.append(arrived)

    def is_deserted(self) -> bool:
        """
        Whether nobody stands there whose arrival was not waited for.
        """
        ready, _, _ = select.select([self._socket], [], [], 0)
        return not ready

    def open(self) -> None:
        """
        Let everybody pass who has arrived.
        """
        for arrived in self._waiting:
            arrived.close()
        self._waiting.clear()

    def close(self) -> None:
        """
        Close it for good, which lets everybody pass.
        """
        self.open()
        self._socket.close()
