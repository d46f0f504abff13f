"""
Upgrade: the primary replaces its own code, and keeps everything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from typing import TYPE_CHECKING

from tests.system.client import Client
from tests.system.processes import eventually, is_alive, processes_marked
from tests.system.server import environment, twistd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.system.conftest import Start


def test_keeps_process_socket_and_clients(start: Start) -> None:
    """
    Same pid, same socket, same connections; counts go on, and the workers are fresh.
    """
    server = start()
    with Client(server.target, "127.0.0.2") as one, Client(server.target, "127.0.0.5") as other:
        before = {one.ask().counted[0], other.ask().counted[0]}
        server.upgrade()
        after = [one.ask().counted, other.ask().counted]
    assert [hits for _, hits in after] == [2, 2]
    assert before.isdisjoint(pid for pid, _ in after)
    assert is_alive(server.pid)
    with Client(server.target, "127.0.0.2") as again:
        assert again.ask().counted == (after[0][0], 3)


def test_workers_notice_nothing(start: Start) -> None:
    """
    A connection that a worker had not acknowledged is not lost, though the worker stands
    still while the primary becomes another program.
    """
    server = start(workers=1)
    worker = server.worker(0)
    server.suspend(worker)
    since = server.log.mark()
    with Client(server.target) as client:
        client.send()
        server.send(signal.SIGUSR2)
        server.log.wait_for(rf"Primary {server.pid} running", since)
        server.resume(worker)
        pid, hits = client.answer().counted
        server.log.wait_for("Reloaded: every worker is fresh", since)
        assert hits == 1
        assert client.ask().counted == (server.worker(0), 2)
    assert pid in (worker, server.worker(0))


def test_a_failing_preflight_changes_nothing(start: Start, tmp_path: Path) -> None:
    """
    New code or settings that do not start leave the old program running; the log says why.
    """
    config = tmp_path / "stickyd.toml"
    config.write_text("spares = 0\n")
    server = start("--config", str(config), workers=1)
    server.allow("Not upgraded, nothing has changed: ")
    with Client(server.target) as client:
        pid, _ = client.ask().counted
        for wrong, reason in (
            ("spares = 'few'\n", "spares: 'few' is not a whole number"),
            ("resource = 'no.such:thing'\n", "no module"),
        ):
            since = server.log.mark()
            config.write_text(wrong)
            server.send(signal.SIGUSR2)
            server.log.wait_for(
                f"Not upgraded, nothing has changed: (?i:.*{reason})", since, timeout=30
            )
        assert client.ask().counted == (pid, 2)
        config.write_text("spares = 0\n")
        server.upgrade()
        assert client.ask().counted == (server.worker(0), 3)


def test_signals_during_the_upgrade_wait(start: Start) -> None:
    """
    A signal that comes while the process is neither the old program nor the new one does
    not end it.
    """
    server = start(workers=1)
    since = server.log.mark()
    server.send(signal.SIGUSR2)
    server.log.wait_for("this process becomes", since, timeout=30)
    server.send(signal.SIGTTIN)
    server.log.wait_for(rf"Primary {server.pid} running", since)
    server.log.wait_for("Reloaded: every worker is fresh", since, timeout=30)
    server.log.wait_for("Resized from 1 to 2 slots", since, timeout=30)
    server.workers = 2


class Daemon:
    """
    A ``twistd`` in the background, in a directory of its own.
    """

    def __init__(self, directory: Path) -> None:
        """
        :param directory: where it is started, and has its files.
        """
        self._directory = directory
        self._mark = f"STICKYD_TEST={uuid.uuid4()}"
        self.pid_file = directory / "twistd.pid"
        self._log = directory / "twistd.log"

    def start(self, before: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        """
        Start it.

        :param before: the command that runs it, and becomes it.
        :param options: of twistd.
        """
        name, _, value = self._mark.partition("=")
        subprocess.run(
            [
                *before,
                *twistd(*options, "stickyd", "--listen", "tcp:0:interface=127.0.0.1"),
                *("--workers", "1"),
            ],
            cwd=self._directory,
            env=environment(**{name: value}),
            check=True,
            stdin=subprocess.DEVNULL,
        )
        assert eventually(lambda: self.said("online"))
        self.pid = int(self.pid_file.read_text())
        self.port = int(self._log.read_text().partition("127.0.0.1:")[2].partition(")")[0])

    def said(self, text: str, times: int = 1) -> bool:
        """
        Whether the log has so many lines with this text.
        """
        return self._log.exists() and self._log.read_text().count(text) >= times

    def stop(self) -> None:
        """
        Stop it in good order.
        """
        os.kill(self.pid, signal.SIGTERM)
        assert eventually(lambda: not processes_marked(self._mark)), self._log.read_text()

    def destroy(self) -> None:
        """
        End whatever is left of it.
        """
        for pid in processes_marked(self._mark):
            os.kill(pid, signal.SIGKILL)


def test_upgrades_a_daemon(tmp_path: Path) -> None:
    """
    A twistd in the background stays there: same pid, same pid file, same log file.
    """
    daemon = Daemon(tmp_path)
    try:
        daemon.start()
        with Client(("127.0.0.1", daemon.port)) as client:
            assert client.ask().counted[1] == 1
            for times in (1, 2):
                os.kill(daemon.pid, signal.SIGUSR2)
                assert eventually(lambda times=times: daemon.said("every worker is fresh", times))  # type: ignore[misc]
                assert int(daemon.pid_file.read_text()) == daemon.pid
                assert is_alive(daemon.pid)
                assert client.ask().counted[1] == times + 1
        daemon.stop()
        assert not daemon.pid_file.exists()
    finally:
        daemon.destroy()
