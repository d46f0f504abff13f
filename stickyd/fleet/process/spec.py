"""
Starting the process of a worker.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorProcess, IReactorSocket, IReactorTime

from stickyd.control.commands import (
    BUS_DESCRIPTOR,
    CONTROL_DESCRIPTOR,
    FIGURES_DESCRIPTOR,
    HANDOFF_DESCRIPTOR,
)

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProcessTransport
    from twisted.internet.protocol import ProcessProtocol

    from stickyd.settings import Settings


class IWorkerReactor(IReactorProcess, IReactorTime, IReactorSocket):
    """
    What spawning needs of a reactor.
    """


@dataclass(frozen=True)
class WorkerSpec:
    """
    What every worker is started with until the next reload.

    :ivar command: the command line.
    :ivar settings: what the worker is told.
    :ivar uid: the user to run as, or :obj:`None` for ours.
    :ivar gid: the same for the group.
    :ivar secrets: what signs (the first) and verifies tokens, and keys are derived from.
    :ivar session_keys: what encrypts (the first) and decrypts sessions; none if they are not.
    :ivar run: names the run of the primary in tokens.
    """

    command: list[str]
    settings: Settings
    uid: int | None = None
    gid: int | None = None
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    session_keys: tuple[bytes, ...] = field(default=(), repr=False)
    run: str = "00000000"

    def start(
        self,
        reactor: IWorkerReactor,
        protocol: ProcessProtocol,
        place: str,
        handoffs: socket.socket,
        figures: int,
        bus: socket.socket,
    ) -> tuple[IProcessTransport, socket.socket]:
        """
        Start a process.

        :param place: its slot or ``spare``, for ``ps``.
        :param handoffs: its end of the handoff channel; remains the caller's.
        :param figures: the descriptor of the page that it counts on; remains the caller's.
        :param bus: its end of the bus; the same.
        :return: the process, and our end of its control channel, non-blocking, which the
            caller closes.
        :raises OSError: if the machine cannot start one more process.
        """
        with ExitStack() as ends:
            control, theirs = socket.socketpair()
            ends.enter_context(theirs)
            ours = ends.enter_context(ExitStack())
            ours.enter_context(control)
            control.setblocking(False)
            nothing = os.open(os.devnull, os.O_RDONLY)
            ends.callback(os.close, nothing)
            # Ctrl-C reaches the whole process group, a worker perhaps before it can say
            # that it leaves that signal to us; it unblocks it when it does.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            ends.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
            process = reactor.spawnProcess(
                protocol,
                self.command[0],
                [*self.command, "--slot", place.removeprefix("slot ")],
                env=None,
                uid=self.uid,
                gid=self.gid,
                childFDs={
                    0: nothing,
                    1: "r",
                    2: "r",
                    HANDOFF_DESCRIPTOR: handoffs.fileno(),
                    CONTROL_DESCRIPTOR: theirs.fileno(),
                    FIGURES_DESCRIPTOR: figures,
                    BUS_DESCRIPTOR: bus.fileno(),
                },
            )
            ours.pop_all()
            return process, control
