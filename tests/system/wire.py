"""
What really passed between a primary and its workers, by the primary's own system calls.

The primary's code runs unchanged; ``wire.c`` stands between it and the C library, and writes a
record.  From that comes the journey of each connection: to which workers it was sent, and which
of them acknowledged it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.compiling import compile_c
from stickyd.control.commands import HANDOFF_DESCRIPTOR
from stickyd.handoff.frame import Kind, Purpose, decode, decode_handoff

HERE = Path(__file__).resolve().parent


def compile_wire(directory: Path) -> Path:
    """
    Compile the library that writes the record into ``directory``.
    """
    return compile_c([HERE / "wire.c"], directory / "wire.so", flags=["-shared", "-fPIC", "-ldl"])


def channel_of(pid: int) -> int:
    """
    The inode of a worker's end of its handoff channel, by which the record names it.
    """
    return os.stat(f"/proc/{pid}/fd/{HANDOFF_DESCRIPTOR}").st_ino


@dataclass
class Delivery:
    """
    A connection that was sent to a worker.

    :ivar channel: of that worker, see :func:`channel_of`.
    :ivar sent_us: when, by the monotonic clock.
    :ivar state: ``sent``; ``acknowledged``; ``refused`` by a NACK; ``given back`` by the
        worker, after it had acknowledged it.
    """

    channel: int
    sequence: int
    sent_us: int
    state: str = "sent"


@dataclass
class Journey:
    """
    What became of a connection that the primary accepted.
    """

    host: str
    port: int
    accepted_us: int
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def served_again(self) -> bool:
        """
        Whether it was sent to one more worker after another had acknowledged it.
        """
        return any(delivery.state == "acknowledged" for delivery in self.deliveries[:-1])

    @property
    def replayed(self) -> bool:
        """
        Whether it was sent once more because a worker had not acknowledged it.
        """
        return any(delivery.state == "sent" for delivery in self.deliveries[:-1])


class Wire:
    """
    The record of one primary.

    :ivar before: the command that its server is to be started by; :attr:`variables` are the
        server's.
    """

    def __init__(self, library: Path, path: Path) -> None:
        """
        :param library: what :func:`compile_wire` made.
        :param path: where the record is written.
        """
        # Not in the server's variables: the shell that starts it would be recorded too.
        self.before = ("env", f"LD_PRELOAD={library}")
        self.variables = {"STICKYD_TEST_WIRE": str(path)}
        self._path = path
        self._reading = _Reading()
        self._offset = 0
        self._lock = threading.Lock()

    def journeys(self) -> dict[tuple[str, int], list[Journey]]:
        """
        The connections so far by host and port, each the oldest first.
        """
        with self._lock, self._path.open() as file:
            file.seek(self._offset)
            # The primary writes whole lines.
            for line in file:
                self._reading.line(line)
            self._offset = file.tell()
            return self._reading.journeys

    def owes(self, channel: int) -> bool:
        """
        Whether a worker has connections that it has not acknowledged, by the record so far.
        """
        self.journeys()
        with self._lock:
            return bool(self._reading.flying.get(channel))


class _Reading:
    """
    Follows the record line by line.
    """

    def __init__(self) -> None:
        self.journeys: dict[tuple[str, int], list[Journey]] = {}
        self.flying: dict[int, list[Delivery]] = {}

    def line(self, line: str) -> None:
        """
        Called with each line.
        """
        at, event, *rest = line.split()
        if event == "accepted":
            host, port = rest[0], int(rest[1])
            self.journeys.setdefault((host, port), []).append(Journey(host, port, int(at)))
        elif not (frame := bytes.fromhex(rest[1])).startswith(b"{"):
            # An order to the fork server, in JSON, goes by a channel of the same kind.
            self._message(event, int(rest[0]), frame, int(at))

    def _message(self, event: str, channel: int, frame: bytes, at: int) -> None:
        # An acknowledgement that the primary never reads counts too.
        kind, sequence, _ = decode(frame, len(frame))
        flying = self.flying.setdefault(channel, [])
        if event == "sent":
            if kind == Kind.HANDOFF:
                delivery = Delivery(channel, sequence, at)
                flying.append(delivery)
                self._journey_of(frame).deliveries.append(delivery)
        elif kind == Kind.HANDOFF:
            self._journey_of(frame).deliveries[-1].state = "given back"
        else:
            # An acknowledgement is cumulative, a refusal is of one.
            state = "acknowledged" if kind == Kind.ACK else "refused"
            settled = [
                delivery
                for delivery in flying
                if delivery.sequence == sequence
                or (kind == Kind.ACK and delivery.sequence < sequence)
            ]
            for delivery in settled:
                delivery.state = state
                flying.remove(delivery)

    def _journey_of(self, frame: bytes) -> Journey:
        handoff = decode_handoff(frame, len(frame), -1)
        assert handoff.purpose == Purpose.CONNECTION
        return self.journeys[handoff.host, handoff.port][-1]
