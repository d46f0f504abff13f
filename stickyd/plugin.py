"""
What ``twistd stickyd`` runs: :mod:`stickyd.options` in, :mod:`stickyd.service` out.
"""

from __future__ import annotations

import resource
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from twisted.internet.error import ReactorNotRunning

from stickyd.errors import OperatorError
from stickyd.fleet.preflight import check_application
from stickyd.options import Options
from stickyd.service import StickyService

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> StickyService:
    """
    Make the service, or end the process with one line that says why not.
    """
    if sys.platform == "win32":
        raise SystemExit("stickyd: Windows cannot pass sockets to a process like this; use WSL")
    _explain_operator_errors()
    _raise_descriptor_limit()
    try:
        service = StickyService(options.settings)
        check_application(options.settings)
    except OperatorError as problem:
        raise SystemExit(f"stickyd: {problem}") from None
    if options["check"]:
        sys.stdout.write("stickyd: the settings are sound and the application imports\n")
        raise SystemExit(0)
    _stop_with_code_0()
    return service


def _stop_with_code_0() -> None:
    """
    Treat SIGTERM and SIGINT as requests, which have been met when the service has stopped.

    The reactor's own handlers remember the signal, and twistd, when all is done, sends it
    to itself: an orderly stop would look like a death.
    """
    from twisted.internet import reactor

    def stop(signum: int, frame: object) -> None:
        reactor.callFromThread(stop_once)  # type: ignore[attr-defined]

    def stop_once() -> None:
        # The second of two signals finds the reactor stopping.
        with suppress(ReactorNotRunning):
            reactor.stop()

    def listen_to_signals() -> None:
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, stop)

    # The reactor installs its handlers when it begins to run, over any that are there.
    reactor.callWhenRunning(listen_to_signals)


def _explain_operator_errors() -> None:
    """
    Show an operator's mistake that comes to light while starting as one line.

    twistd lets the exception of a service that does not start end the process, after it
    has tidied up its pid file: so the exception must be a real one, and only its
    presentation is ours.
    """
    former = sys.excepthook

    def show(
        kind: type[BaseException], problem: BaseException, trace: TracebackType | None
    ) -> None:
        if isinstance(problem, OperatorError):
            sys.stderr.write(f"stickyd: {problem}\n")
        else:
            former(kind, problem, trace)

    sys.excepthook = show


def _raise_descriptor_limit() -> None:
    """
    Use the descriptors that we may: a service manager's soft limit of 1,024 is there for
    programs that call select(2).  Workers inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
