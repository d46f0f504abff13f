"""
What ``twistd stickyd`` runs: :mod:`stickyd.options` in, :mod:`stickyd.service` out.
"""

from __future__ import annotations

import resource
import sys
from typing import TYPE_CHECKING

from twisted.application.service import MultiService

from stickyd.control.signals import Signals
from stickyd.errors import OperatorError
from stickyd.fleet.preflight import check_application
from stickyd.options import Options
from stickyd.service import StickyService

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> MultiService:
    """
    Make the service, or end the process with one line that says why not.
    """
    if sys.platform == "win32":
        raise SystemExit("stickyd: Windows cannot pass sockets to a process like this; use WSL")
    from twisted.internet import reactor

    _explain_operator_errors()
    _raise_descriptor_limit()
    try:
        sticky = StickyService(options.settings)
        check_application(options.settings)
    except OperatorError as problem:
        raise SystemExit(f"stickyd: {problem}") from None
    if options["check"]:
        sys.stdout.write("stickyd: the settings are sound and the application imports\n")
        raise SystemExit(0)
    together = MultiService()
    sticky.setServiceParent(together)
    Signals(reactor, sticky, options.reread, lambda: None).setServiceParent(together)
    return together


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
