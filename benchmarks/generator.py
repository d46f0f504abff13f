"""
The Python face of the load generator in ``load/``.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from typing_extensions import Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


@dataclass(frozen=True)
class Load:
    """
    What to ask of a server; the generator's ``--help`` explains each.
    """

    port: int
    mode: str = "close"
    connections: int = 64
    sources: int = 256
    seconds: float = 3.0
    requests: int | None = None
    per_connection: int = 200
    timeout_ms: int = 5000
    spread: str = "net"
    ledger: Path | None = None
    carried: bool = False
    think_ms: int = 0
    cookie: str = ""
    cookie_jar: Path | None = None

    def arguments(self) -> list[str]:
        """
        The generator's command line, without its name.
        """
        arguments = [
            f"--mode={self.mode}",
            f"--connections={self.connections}",
            f"--sources={self.sources}",
            f"--seconds={self.seconds}",
            f"--per-connection={self.per_connection}",
            f"--timeout-ms={self.timeout_ms}",
            f"--think-ms={self.think_ms}",
            f"--spread={self.spread}",
        ]
        if self.requests is not None:
            arguments.append(f"--requests={self.requests}")
        if self.ledger is not None:
            arguments.append(f"--ledger={self.ledger}")
        if self.carried:
            arguments.append("--carried")
        if self.cookie:
            arguments.append(f"--cookie={self.cookie}")
        if self.cookie_jar is not None:
            arguments.append(f"--cookie-jar={self.cookie_jar}")
        return [*arguments, f"127.0.0.1:{self.port}"]


@dataclass(frozen=True)
class Stickiness:
    """
    Where the sources were served, and whether their counts came in order.
    """

    sources: int
    moved_sources: int
    moves: int
    order_checked: int
    order_wrong: int
    unreadable: int
    pids: dict[str, int]

    @property
    def holds(self) -> bool:
        """
        Whether every source kept to one process, and each of its counts was the last plus 1.
        """
        return not (self.moves or self.order_wrong or self.unreadable) and self.sources > 0


@dataclass(frozen=True)
class Outcome:
    """
    What came of a load.  ``begun`` is the sum of ``answered`` and ``failed``.
    """

    mode: str
    seconds: float
    begun: int
    answered: int
    failed: int
    opened: int
    no_eof: int
    trailing: int
    interrupted: bool
    per_second: float
    cpu_seconds: float
    failures: dict[str, int]
    failed_in: dict[str, int]
    latency_ms: dict[str, float]
    stickiness: Stickiness

    @classmethod
    def from_json(cls, text: str) -> Self:
        """
        Read the generator's report.
        """
        fields: dict[str, Any] = json.loads(text)
        fields["stickiness"] = Stickiness(**fields["stickiness"])
        return cls(**fields)

    @property
    def errors(self) -> dict[str, int]:
        """
        Everything that should not have happened, by kind.

        Moves and wrong counts are not among them: some servers promise neither.
        """
        others = {
            "no_eof": self.no_eof,
            "trailing": self.trailing,
            "unreadable": self.stickiness.unreadable,
        }
        return self.failures | {kind: count for kind, count in others.items() if count}


def run_load(program: Path, load: Load) -> Outcome:
    """
    Run the generator to its end.

    :raises subprocess.CalledProcessError: if it refuses its options.
    :raises subprocess.TimeoutExpired: if it outlives its own bounds, which would be a bug.
    """
    bound = load.seconds + load.timeout_ms / 1000 + 30
    done = subprocess.run(
        [program, *load.arguments()], stdout=subprocess.PIPE, text=True, check=True, timeout=bound
    )
    return Outcome.from_json(done.stdout)


@dataclass(frozen=True)
class Held:
    """
    How many idle connections are open, and what became of the others.
    """

    event: str
    held: int
    failed: int
    lost: int
    pings: int
    failures: dict[str, int]


class IdleConnections:
    """
    Connections that are open, and silent, while the ``with`` block runs.
    """

    def __init__(
        self, program: Path, load: Load, count: int, websocket: bool, patience: float = 120.0
    ) -> None:
        """
        Prepare; nothing is opened before the block begins.

        :param load: ``seconds`` bounds how long they are held; ``mode`` is not looked at.
        :param patience: seconds that opening them all may take.
        """
        extra = [f"--idle={count}"] + ["--websocket"] * websocket
        arguments = [a for a in load.arguments() if not a.startswith("--mode=")]
        self._command = [str(program), "--mode=idle", *extra, *arguments]
        self._patience = patience
        self._process: subprocess.Popen[str]
        self.held: Held

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        try:
            self.held = self._read()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            if error is None:
                self.held = self._read()
        finally:
            self._process.kill()
            self._process.wait()
            self._output.close()

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _read(self) -> Held:
        if not select.select([self._output], [], [], self._patience)[0]:
            raise TimeoutError(f"the idle connections were not open after {self._patience} s")
        line = self._output.readline()
        if not line:
            raise ChildProcessError("the load generator ended early")
        return Held(**json.loads(line))
