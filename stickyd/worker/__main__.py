"""
The composition root of a worker: ``python -m stickyd.worker``, started by the primary.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # Modules are no garbage: to look for some while they are imported is a fifth of a start.
    gc.disable()
    from stickyd.worker.postponed import import_network

    import_network()

import argparse
import faulthandler
import os
import signal
import socket
import sys
from typing import Any

from twisted.internet.protocol import Factory

from stickyd.control.commands import CONTROL_DESCRIPTOR
from stickyd.control.forking import FORK_SERVER
from stickyd.errors import OperatorError
from stickyd.identity.desk import fleet_keys, this_worker
from stickyd.leadership.desk import leadership
from stickyd.net.descriptors import keep_from_children
from stickyd.net.steady_time import keep_steady
from stickyd.settings import Settings
from stickyd.worker.bus import WorkerBus, inherited_bus
from stickyd.worker.ends import Ends
from stickyd.worker.first_order import await_first_order
from stickyd.worker.loading import import_ahead, loop_of
from stickyd.worker.log import begin_logging, write_lines_at_once
from stickyd.worker.main_task import run_with_main_task
from stickyd.worker.orphan import OrphanWatch
from stickyd.worker.side_effects import forget_undeclared, free_forks
from stickyd.worker.signal_stack import enlarge_signal_stack
from stickyd.worker.stacks import StacksDoor
from stickyd.worker.worker import Worker, ignore, ignore_signals


def install_reactor(name: str) -> Any:
    """
    Install the reactor that the settings name, and return it.
    """
    if name == "epoll":
        from twisted.internet import epollreactor

        epollreactor.install()
    else:
        import asyncio

        from twisted.internet import asyncioreactor

        if name == "uvloop":
            import uvloop

            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        else:
            loop = asyncio.SelectorEventLoop()
        asyncio.set_event_loop(loop)
        asyncioreactor.install(loop)
    from twisted.internet import reactor

    keep_steady(reactor)
    return reactor


def prepare(is_forked: bool = False) -> None:
    """
    Undo what our own imports have changed in this process: an application expects a plain one.

    :param is_forked: whether all of ours was imported, and that was undone, before this process
        was forked.
    """
    if not is_forked:
        forget_undeclared()
    free_forks()
    # What is there by now stays: no collection looks at it again, nor does the one at the exit.
    gc.freeze()
    gc.enable()


def serve(reactor_name: str, is_forked: bool = False) -> int:
    """
    Serve until told to stop, or until the primary is gone.

    :param is_forked: whether this process was forked by :func:`serve_forks`.
    :return: the exit code.
    """
    bus = inherited_bus()
    # The primary asks for it when the heartbeats fail to come.
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    enlarge_signal_stack()
    set_log_level = begin_logging()
    stacks = StacksDoor()
    orphan = OrphanWatch(os.dup(CONTROL_DESCRIPTOR), stacks, leadership.give_up_within)
    orphan.start()
    reactor = install_reactor(reactor_name)
    stacks.know(loop_of(reactor))
    ends = Ends.inherited()
    with socket.socket(fileno=CONTROL_DESCRIPTOR) as control:
        order = await_first_order(control)
        if order is None:
            return 0
        arguments, read = order
        path: list[str] = arguments["path"]
        sys.path.extend(entry for entry in path if entry not in sys.path)
        settings = Settings.from_json(arguments["settings"])
        set_log_level(settings.log_level)
        this_worker.begin(
            arguments["slot"],
            arguments.get("slots") or 0,
            settings.node,
            arguments.get("generation") or 0,
            settings.generation_name,
            (arguments.get("run") or "") if settings.reload_mode == "client" else "",
        )
        leadership.manage()
        fleet_keys.begin(arguments["secrets"])
        problem = None
        worker_bus = None
        try:
            worker_bus = WorkerBus(reactor, bus, settings)
            import_ours(settings)
            prepare(is_forked)
            import_ahead(settings, reactor)
        except OperatorError as raised:
            problem = raised
        worker = Worker(reactor, ends, orphan, worker_bus, problem)
        stacks.know_requests(worker.link.tell)
        reactor.adoptStreamConnection(
            control.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: worker.link)
        )
    worker.link.begin_with(read, reactor.callLater)
    run_with_main_task(reactor)
    return worker.exit_code


def import_ours(settings: Settings) -> None:
    """
    Import all of ours that serves, before anything of the application's: what it does to the
    application's world is put right then.
    """
    from stickyd.worker.build_host import import_host

    import_host(settings)
    import stickyd.worker.server  # noqa: F401


def serve_forks(reactor_name: str) -> int:
    """
    Fork workers, and serve in each of them.

    :return: the exit code, of a worker or of the server.
    """
    from stickyd.worker.fork_server import ForkServer, show_as
    from stickyd.worker.preload import preload

    def import_all(text: str, path: list[str]) -> None:
        sys.path.extend(entry for entry in path if entry not in sys.path)
        preload(Settings.from_json(text), reactor_name)
        forget_undeclared()
        # Nothing that is garbage by now, nor the marks of a collection, is copied into workers.
        gc.collect()
        gc.freeze()

    # Sent to the whole group it means the primary, which ends us.
    signal.signal(signal.SIGTERM, ignore)
    with socket.socket(fileno=CONTROL_DESCRIPTOR) as channel:
        place = ForkServer(channel).run(import_all)
    if place is None:
        return 0
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    show_as(FORK_SERVER, ["--slot", place])
    keep_from_children()
    return serve(reactor_name, is_forked=True)


def check(descriptor: int) -> int:
    """
    Try the application.

    :param descriptor: the socket of :func:`stickyd.worker.trial.try_application`.
    :return: the exit code.
    """
    # No worker that serves needs it.
    from stickyd.worker.trial import leave_leadership, try_application

    write_lines_at_once()
    with socket.socket(fileno=descriptor) as channel:
        leader = leave_leadership()
        return try_application(channel, leader, install_reactor, prepare)


def main() -> int:
    """
    Do what the command line says.

    :return: the exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m stickyd.worker", description=__doc__)
    # Only for `ps` to show: a spare gets its slot later.
    parser.add_argument("--slot", default="spare")
    parser.add_argument("--reactor", default="uvloop")
    parser.add_argument("--check", type=int, metavar="DESCRIPTOR")
    parser.add_argument(FORK_SERVER, action="store_true")
    arguments = parser.parse_args()
    # What the primary gave us is ours alone: a child of the application that had the handoff
    # channel would keep it open after our death.
    keep_from_children()
    ignore_signals()
    # All that the primary may have blocked as it started us.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    if arguments.check is not None:
        return check(arguments.check)
    if arguments.fork_server:
        return serve_forks(arguments.reactor)
    return serve(arguments.reactor)


if __name__ == "__main__":
    sys.exit(main())
