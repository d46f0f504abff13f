"""
A spawner on a reactor that starts no process, and the worker's ends of both channels.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Mapping
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    ProcessDone,
    ProcessExitedAlready,
    ProcessTerminated,
)
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect

from stickyd.control.commands import (
    BUS_DESCRIPTOR,
    HANDOFF_DESCRIPTOR,
    Accept,
    ControlProtocol,
    Keep,
    Lead,
    Place,
    Release,
    Serve,
    Stop,
)
from stickyd.fleet.backoff import Backoff
from stickyd.fleet.process.launcher import Launcher
from stickyd.fleet.process.output_share import OutputShare
from stickyd.fleet.process.process import WorkerProcess
from stickyd.fleet.process.recycle import Recycling
from stickyd.fleet.process.spawner import Spawner, worker_command
from stickyd.fleet.process.spec import WorkerSpec
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.messaging.hub import BusHub
from stickyd.settings import Settings
from stickyd.testing import FakeFleet, FakeReadiness, FakeRefusal
from tests.channels import End

EXITED = Failure(ProcessDone(None))
KILLED = Failure(ProcessTerminated(None, signal.SIGKILL, 9))
SECRETS = (b"the secret that signs", b"a former secret of ours")


class Process:
    """
    As much of a process as its worker uses: it keeps the signals that it is sent.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.signals: list[signal.Signals] = []
        self.exited = False

    def signalProcess(self, signalID: signal.Signals) -> None:  # noqa: N802, N803 - Twisted's
        if self.exited:
            raise ProcessExitedAlready
        self.signals.append(signalID)


class FakeControl(ControlProtocol):
    """
    A worker's end of the control channel; it answers when the test says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.served: list[tuple[Settings, int, list[str]]] = []
        self.stopped: list[float] = []
        self.places: list[tuple[int, list[int]]] = []
        self.releases: list[tuple[int, list[int]]] = []
        self.heard: list[object] = []
        self.accepts = 0
        self.leads: list[tuple[int, str, int, float]] = []
        self.answer: Deferred[dict[str, object]] = Deferred()

    @Serve.responder
    def serve(
        self,
        settings: str,
        slot: int,
        path: list[str],
        secrets: list[bytes],
        session_keys: list[bytes],
        slots: int,
        generation: int,
        run: str,
    ) -> Deferred[dict[str, object]]:
        self.secrets = secrets
        self.served.append((Settings.from_json(settings), slot, path))
        return self.answer

    @Place.responder
    def place(
        self, slots: int, standing: list[int], keepers: list[int], keyed: bool
    ) -> dict[str, object]:
        self.places.append((slots, standing))
        self.heard.append((slots, standing))
        return {}

    @Release.responder
    def release(self, slots: int, standing: list[int]) -> dict[str, object]:
        self.releases.append((slots, standing))
        self.heard.append((slots, standing))
        return {}

    @Keep.responder
    def keep(self, slots: int, standing: list[int]) -> dict[str, object]:
        self.heard.append("keep")
        return {}

    @Lead.responder
    def lead(self, term: int, fleet: str, held_term: int, held_until: float) -> dict[str, object]:
        self.leads.append((term, fleet, held_term, held_until))
        return {}

    @Accept.responder
    def accept(self) -> dict[str, object]:
        self.accepts += 1
        return {}

    @Stop.responder
    def stop(self, patience: float) -> dict[str, object]:
        self.stopped.append(patience)
        self.heard.append("stop")
        return {}


class Reactor(MemoryReactorClock):
    """
    A reactor that starts processes which are none, and adopts their control channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.process = Process(4711)
        self.spawned: list[tuple[str, list[str], object, dict[int, int | str]]] = []
        self.ends_at_once: Failure | None = None
        self.fork_error = 0
        self.adopt_error = 0
        self.control = FakeControl()
        self.handoffs: End | None = None
        self.pipe: IOPump | None = None
        self.buses: list[socket.socket] = []

    def spawnProcess(  # noqa: N802 - Twisted's
        self,
        processProtocol: Any,  # noqa: N803
        executable: str,
        args: list[str],
        env: Mapping[str, str] | None,
        uid: int | None,
        gid: int | None,
        childFDs: dict[int, int | str],  # noqa: N803
    ) -> Process:
        if self.fork_error:
            raise OSError(self.fork_error, os.strerror(self.fork_error))
        self.spawned.append((executable, args, env, childFDs))
        handoffs = childFDs[HANDOFF_DESCRIPTOR]
        bus = childFDs[BUS_DESCRIPTOR]
        assert isinstance(handoffs, int)
        assert isinstance(bus, int)
        self.buses.append(socket.socket(fileno=os.dup(bus)))
        self.handoffs = End(socket.socket(fileno=os.dup(handoffs)), 8)
        if self.ends_at_once is not None:
            # As Twisted does it: it looks for the end of the child within spawnProcess().
            self.process.exited = True
            processProtocol.processExited(self.ends_at_once)
        return self.process

    def adoptStreamConnection(  # noqa: N802 - Twisted's
        self,
        fileDescriptor: int,  # noqa: N803
        addressFamily: int,  # noqa: N803
        factory: ServerFactory,
    ) -> None:
        if self.adopt_error:
            raise OSError(self.adopt_error, os.strerror(self.adopt_error))
        assert addressFamily == socket.AF_UNIX
        assert not os.get_blocking(fileDescriptor)
        protocol = factory.buildProtocol(cast("Any", None))
        assert protocol is not None
        self.pipe = connect(
            protocol,
            FakeTransport(protocol, True),
            self.control,
            FakeTransport(self.control, False),
        )


class Rig:
    """
    A spawner on that reactor, and a slot.
    """

    def __init__(self, **settings: object) -> None:
        self.reactor = Reactor()
        self.readiness = FakeReadiness(self.reactor)
        self.settings = Settings.read({"start_timeout": 20.0, **settings})
        self.returns = FakeFleet()
        self.slot = Slot(3, self.reactor, QueueLimits(10, 100.0), FakeRefusal())
        self.hub = BusHub(cast("Any", self.reactor), self.readiness)
        self.spawner = Spawner(
            cast("Any", self.reactor),
            self.readiness,
            Launcher(
                cast("Any", self.reactor),
                self.readiness,
                WorkerSpec(worker_command(self.settings), self.settings, secrets=SECRETS),
                # What is logged takes no time: on a busy machine it would be told later.
                OutputShare(self.reactor.seconds),
                forks=False,
            ),
            self.returns,
            Backoff(1.0, 8.0, lambda: 1.0),
            Recycling(0, 0, lambda: 0.0, lambda _: succeed([])),
            self.hub,
        )
        self.told: list[str] = []
        self.worker = self.spawn()

    def spawn(self) -> WorkerProcess:
        """
        Start one more worker.
        """
        return self.spawner.spawn(self.slot, lambda: self.told.append("ready"), self.told.append)

    def flush(self) -> None:
        """
        Let both ends of the control channel read.
        """
        assert self.reactor.pipe is not None
        self.reactor.pipe.flush()

    def ready(self) -> None:
        """
        Let the worker answer that it serves.
        """
        self.flush()
        self.reactor.control.answer.callback({})
        self.flush()

    def turn(self) -> None:
        """
        Let both ends of the handoff channel read until nothing is left.
        """
        assert self.reactor.handoffs is not None
        while self._turn_ours() | self.reactor.handoffs.turn():
            pass

    def _turn_ours(self) -> bool:
        readers = dict(self.readiness.readers)
        ready = select.select(list(readers), [], [], 0)[0]
        for descriptor in ready:
            readers[descriptor]()
        return bool(ready)

    def die(self, how: Failure = EXITED) -> None:
        """
        End the process.
        """
        self.reactor.process.exited = True
        self.worker.processExited(how)

    def hang_up(self) -> None:
        """
        Let the primary hear what the worker has said last, and that it has closed.
        """
        transport = self.reactor.control.transport
        assert transport is not None
        transport.loseConnection()
        self.flush()

    def close(self) -> None:
        """
        Close what either end holds.
        """
        for handoff in self.worker.reclaim():
            os.close(handoff.descriptor)
        end = self.reactor.handoffs
        if end is not None:
            for handoff in (*end.channel.reclaim(), *end.received()):
                os.close(handoff.descriptor)
        self.hub.close()
        for bus in self.reactor.buses:
            bus.close()
        self.returns.close()


# giving away


def taking(rig: Rig) -> End:
    """
    Let a ready worker take connections.

    :return: its end of the handoff channel.
    """
    rig.ready()
    end = rig.reactor.handoffs
    assert end is not None
    end.channel.open()
    rig.turn()
    rig.slot.occupy(rig.worker)
    return end
