"""
What ``twistd stickyd`` runs: :mod:`stickyd.settings.options` in, :mod:`stickyd.service` out.
"""

from __future__ import annotations

import gc
import os
import resource
import secrets
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from typing_extensions import override

from stickyd.admin.admin import Admin
from stickyd.admin.view import AdminView
from stickyd.control.exit_code import ExitCode
from stickyd.control.signals import COMMANDS, Signals
from stickyd.control.systemd import ServiceManager
from stickyd.errors import ApplicationError, OperatorError
from stickyd.fleet.preflight import check_application
from stickyd.fleet.report import report_on
from stickyd.log.journal import Journal
from stickyd.log.writer import LogWriter
from stickyd.operate.primary import Primary
from stickyd.operate.socket import ControlSocket
from stickyd.operate.table import Commands
from stickyd.service import StickyService
from stickyd.settings import Settings
from stickyd.settings import options as command_line
from stickyd.settings.options import write_out
from stickyd.system.host_check import Host, findings
from stickyd.system.reaper import Reaper, reap, zombie_children
from stickyd.upgrade.command_line import LOGFILE
from stickyd.upgrade.inheritance import INHERIT, Preflight, take_inherited, take_preflight
from stickyd.upgrade.upgrade import Upgrade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

__all__ = ["Options", "makeService"]

_log = Logger()

#: What ends a process while the application is tried.
_ENDING = (signal.SIGTERM, signal.SIGQUIT)


class Options(command_line.Options):
    """
    What ``twistd stickyd`` understands, when it is run by twistd.

    :ivar problem: why the command line gave no settings, in a program that goes on with what
        its former code did; else empty.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problem = ""

    @override
    def refuse(self, problem: str) -> None:
        if INHERIT not in os.environ:
            super().refuse(problem)
        # This process has clients, and the settings that were tried.
        self.problem = problem


def makeService(options: Options) -> MultiService:
    """
    Make the service, or end the process with one line that says why not.
    """
    if sys.platform == "win32":
        raise SystemExit("stickyd: Windows cannot pass sockets to a process like this; use WSL")
    from twisted.internet import reactor

    # All modules are there, and stay: no collection looks at them again.
    gc.freeze()
    _explain_operator_errors()
    _raise_descriptor_limit()
    exit_code = ExitCode()

    def give_up() -> None:
        exit_code.set(1)
        reactor.stop()

    inherited, preflight, sticky = _make_checked(options, give_up)
    if options["check"] or preflight is not None:
        _say_sound(options.settings)
        raise SystemExit(0)
    if inherited is None:
        _require_writable(options)
    return _assemble(reactor, options, sticky, inherited)


def _make_checked(
    options: Options, give_up: Callable[[], None]
) -> tuple[dict[str, Any] | None, Preflight | None, StickyService]:
    """
    Make the service, and try all that can be tried before it listens.

    :return: the state that this process left before it replaced its code, if it has; what the
        parent says, if this process only tries the code; and the service.
    :raises SystemExit: says in one line what is wrong.
    """
    try:
        inherited = take_inherited(os.environ)
        preflight = take_preflight(os.environ)
        if preflight is not None:
            preflight.end_with_parent()
        sticky = _make_sticky(options, inherited, preflight, give_up)
        if inherited is None:
            with _ending_by_signals():
                check_application(_as_workers(options))
        if preflight is not None:
            sticky.try_listening()
            preflight.accept(options.settings)
    except OperatorError as problem:
        if isinstance(problem, ApplicationError) and problem.trace:
            sys.stderr.write(f"{problem.trace}\n")
        raise SystemExit(f"stickyd: {problem}") from None
    except KeyboardInterrupt as interrupt:
        sys.stderr.write("stickyd: interrupted while the application was tried\n")
        raise SystemExit(128 + next(iter(interrupt.args), signal.SIGINT)) from None
    return inherited, preflight, sticky


@contextmanager
def _ending_by_signals() -> Iterator[None]:
    """
    Have SIGTERM and SIGQUIT end what goes on, as Ctrl-C does; without a handler they mean nothing
    to process 1.
    """

    def interrupt(signum: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt(signum)

    former = {signum: signal.signal(signum, interrupt) for signum in _ENDING}
    try:
        yield
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)


def _say_sound(settings: Settings) -> None:
    """
    Say what ``--check`` has found.
    """
    for warning in (*settings.keys.warnings, *findings(settings, Host.here())):
        sys.stderr.write(f"stickyd: {warning}\n")
    if settings.application is None:
        served = "; no application is named: the demonstration would be served"
    elif settings.static:
        served = " and the directory can be served"
    else:
        served = " and the application imports"
    write_out(f"stickyd: the settings are sound{served}\n")


def _assemble(
    reactor: Any, options: Options, sticky: StickyService, inherited: dict[str, Any] | None
) -> MultiService:
    """
    Put what operators and service managers talk to beside the service.

    :raises SystemExit: if the log cannot be written.
    """
    began_at = reactor.seconds() if inherited is None else inherited["began_at"]
    journal = Journal(reactor.callFromThread)
    journal.restore_state((inherited or {}).get("journal", ()))
    primary = Primary(
        reactor,
        sticky.fleet,
        sticky.operations,
        secrets.token_hex(8),
        began_at,
        sticky.listens_on,
        sticky.health,
        journal,
        sticky.explain,
        options.reread,
        lambda: options.origins,
        lambda: upgrade.begin(),  # which carries the control socket on
        lambda: signals.stop(),
    )
    control = ControlSocket(reactor, sticky.settings.control, Commands(primary).run, inherited)
    admin = _make_admin(reactor, options, sticky, journal, inherited)
    together = _WatchedToTheEnd((control, admin), journal, _open_log(options))
    sticky.setServiceParent(together)
    sticky.operations.watch_settings(together.follow_settings)
    manager = ServiceManager(reactor, sticky, os.environ)
    manager.setServiceParent(together)
    reactor.callWhenRunning(lambda: manager.start_watchdog(os.getpid()))
    upgrade = Upgrade(
        reactor,
        sticky.upgrade_state,
        os.getcwd(),
        partial(_forget_pid, options),
        COMMANDS,
        also=lambda: {
            "began_at": began_at,
            "journal": journal.dump_state(),
            **control.dump_state(),
            **admin.dump_state(),
        },
    )
    signals = Signals(reactor, sticky, options.reread, upgrade.begin, together.reopen_log)
    signals.setServiceParent(together)
    if os.getpid() == 1:
        reactor.callWhenRunning(Reaper(reactor, zombie_children, reap).start)
    return together


class _WatchedToTheEnd(MultiService):
    """
    Services of which operators may ask until the last of them has stopped, and where they log.
    """

    def __init__(self, last: Sequence[Service], journal: Journal, log: LogWriter | None) -> None:
        """
        :param last: what operators ask.
        :param log: what writes the log; twistd does if there is none.
        """
        super().__init__()
        self._last = last
        self._journal = journal
        self._log_writer = log
        for each in last:
            each.setServiceParent(self)

    @override
    def privilegedStartService(self) -> None:
        globalLogPublisher.addObserver(self._journal)
        super().privilegedStartService()

    @override
    def stopService(self) -> Deferred[object]:
        Service.stopService(self)
        others = [each for each in reversed(list(self)) if each not in self._last]
        stopped: Deferred[Any] = DeferredList([maybeDeferred(each.stopService) for each in others])
        return stopped.addCallback(self._end)

    def _end(self, _: object) -> None:
        for each in self._last:
            each.stopService()
        globalLogPublisher.removeObserver(self._journal)

    @override
    def setServiceParent(self, parent: Any) -> None:
        super().setServiceParent(parent)
        # twistd asks its application who logs, once we are a part of it.
        if self._log_writer is not None and parent.getComponent(ILogObserver, None) is None:
            parent.setComponent(ILogObserver, self._log_writer)

    def follow_settings(self, settings: Settings) -> None:
        """
        Log as the settings of a reload say.
        """
        if self._log_writer is not None:
            self._log_writer.write_from(settings.log_level)

    def reopen_log(self) -> None:
        """
        Open the file of the log again.

        :raises OSError: if that cannot be.
        """
        if self._log_writer is not None:
            self._log_writer.reopen()


def _open_log(options: Options) -> LogWriter | None:
    """
    Open what twistd's own options say of the log, in the form that ours say.

    :return: nothing if twistd itself is told how to log: --syslog, --logger, a .tac.
    :raises SystemExit: if it cannot be opened.
    """
    twistd: Any = options.parent
    if twistd is None or twistd["syslog"] or twistd["logger"]:
        return None
    path = twistd["logfile"] or ""
    if not path and not twistd["nodaemon"]:
        path = LOGFILE
    if path == "-" and not twistd["nodaemon"]:
        return None  # twistd says that this cannot be
    settings = options.settings
    try:
        return LogWriter(
            "" if path == "-" else path, settings.log_format, settings.log_level, os.environ
        )
    except OSError as problem:
        raise SystemExit(f"stickyd: cannot write {path}: {problem.strerror}") from None


def _make_admin(
    reactor: Any,
    options: Options,
    sticky: StickyService,
    journal: Journal,
    inherited: dict[str, Any] | None,
) -> Admin:
    view = AdminView(
        reactor,
        sticky.fleet,
        sticky.operations,
        sticky.figures,
        lambda: report_on(sticky.fleet),
        sticky.health,
        sticky.explain,
        options.reread,
        lambda: sticky.bus.figures,
    )
    return Admin(reactor, sticky.settings, view, journal, inherited)


def _make_sticky(
    options: Options,
    inherited: dict[str, Any] | None,
    preflight: Preflight | None,
    give_up: Callable[[], None],
) -> StickyService:
    """
    Make the service: to start it, to try the code, or to go on after an upgrade.

    :raises OperatorError: if it cannot be with these settings.
    """
    if inherited is None:
        held = () if preflight is None else preflight.endpoints
        return StickyService(options.settings, held=held, gave_up=give_up)
    if options.problem:
        _log.error(
            "{problem}: the settings are those that were tried, until a reload reads others",
            event="upgrade.settings-stay",
            problem=options.problem,
        )
    try:
        settings = Settings.from_json(inherited["settings"])
        return StickyService(settings, inherited=inherited, gave_up=give_up)
    except OperatorError as problem:
        # It could be when that was tried; our clients are worth more.
        _log.error(
            "{problem}: the settings are those of before the upgrade",
            event="upgrade.settings-stay",
            problem=problem,
        )
        settings = Settings.from_json(inherited["former"])
        return StickyService(settings, inherited=inherited, gave_up=give_up)


def _as_workers(options: Options) -> Settings:
    """
    The settings with the user that the workers will run as: that of ``twistd --uid`` too,
    which this process becomes only later.
    """
    settings, twistd = options.settings, options.parent
    if settings.uid or settings.gid or twistd is None or twistd["uid"] is None:
        return settings
    gid = "" if twistd["gid"] is None else str(twistd["gid"])
    return replace(settings, uid=str(twistd["uid"]), gid=gid)


def _require_writable(options: Options) -> None:
    """
    Try what twistd will write, for which it would show a traceback.

    :raises SystemExit: says which file, and what to write instead.
    """
    twistd: Any = options.parent
    if twistd is None or twistd["chroot"] is not None:
        return
    if twistd["pidfile"]:
        _require_file(twistd["pidfile"], "write twistd --pidfile= for none, or name another")
    if not twistd["nodaemon"] and not twistd["syslog"]:
        advice = "name another by twistd --logfile, or stay in the foreground: twistd -n"
        _require_file(twistd["logfile"] or "twistd.log", advice)


def _require_file(path: str, advice: str) -> None:
    path = os.path.abspath(path)
    directory = os.path.dirname(path)
    if os.path.isdir(path):
        reason = "it is a directory"
    elif not os.path.isdir(directory):
        reason = "there is no such directory"
    elif os.access(path if os.path.exists(path) else directory, os.W_OK):
        return
    else:
        reason = "Permission denied"
    raise SystemExit(f"stickyd: cannot write {path}: {reason}; {advice}")


def _forget_pid(options: Options) -> Callable[[], None] | None:
    """
    Remove twistd's pid file, if it is ours.

    :return: writes it again; or nothing if there is none, or it stays because we may not
        remove it, having given up root.
    """
    twistd: Any = options.parent
    path = Path("twistd.pid" if twistd is None else twistd["pidfile"] or os.devnull)
    try:
        text = path.read_text()
        if text.strip() == str(os.getpid()):
            path.unlink()
            return partial(_write, path, text)
    except OSError:
        pass
    return None


def _write(path: Path, text: str) -> None:
    path.write_text(text)


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
    Raise the limit of open files as far as we may: the soft limit of 1,024 that service
    managers set is for programs that call select(2).  Workers inherit ours.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
