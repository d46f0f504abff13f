"""
Starting a process of ours, which executes Python anew.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IProcessTransport
    from twisted.internet.protocol import ProcessProtocol

    from stickyd.fleet.process.spec import IWorkerReactor, WorkerSpec


def spawn(
    reactor: IWorkerReactor,
    protocol: ProcessProtocol,
    spec: WorkerSpec,
    arguments: list[str],
    descriptors: Mapping[int, int],
) -> IProcessTransport:
    """
    Start a process that reads nothing, and whose standard output and error are read.

    :param arguments: what follows the command line of ``spec``.
    :param descriptors: what else it gets, by its own numbers; they remain the caller's.
    :raises OSError: if the machine cannot start one more process.
    """
    with ExitStack() as ends:
        nothing = os.open(os.devnull, os.O_RDONLY)
        ends.callback(os.close, nothing)
        # Ctrl-C reaches the whole process group, a worker perhaps before it can say
        # that it leaves that signal to us; it unblocks it when it does.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        ends.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        return reactor.spawnProcess(
            protocol,
            spec.command[0],
            [*spec.command, *arguments],
            env=None,
            uid=spec.uid,
            gid=spec.gid,
            childFDs={0: nothing, 1: "r", 2: "r", **descriptors},
        )
