"""
Trying the application in a process that serves no client: ``python -m stickyd.worker --check``.

The primary asks over a socket of its own and is answered there, since standard output, and the
end of this process, are the application's: it may print what it likes, and leave threads and
processes behind.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from stickyd.errors import OperatorError
from stickyd.identity.desk import this_worker
from stickyd.leadership.desk import leadership
from stickyd.sessions.answers import result_of
from stickyd.settings import Settings
from stickyd.worker.bus import check_bus
from stickyd.worker.green_threads import green_threads
from stickyd.worker.loading import import_ahead, loop_of, places
from stickyd.worker.unshared import unshared

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

    from stickyd.sessions.interfaces import ISessionStore

#: The longest answer: much more than a line that is read.
LONGEST_ANSWER_BYTES = 16 * 1024

#: How many things an operator is warned of.
MOST_WARNINGS = 20

#: The slot of a store that is tried, and used by nobody.
NO_SLOT = -1


def leave_leadership() -> int | None:
    """
    Go on in a child, if we lead a process group: no leader may call setsid(2) or setpgid(2),
    as an application may at import, and a worker leads none.

    The leader waits, kills what a child that leads a group of its own has left there, and ends
    as the child did.

    :return: in the child, the leader's pid; :obj:`None` if nothing had to be done.
    """
    leader = os.getpid()
    if os.getpgrp() != leader:
        return None
    child = os.fork()
    if not child:
        return leader
    # Not reaped yet, so that nobody else gets its number.
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _end_groups(leader: int | None) -> None:
    """
    Kill the leader's group, which is ours unless the application has made one of its own, and
    that one.
    """
    if leader is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


def tell(channel: socket.socket, **answer: object) -> None:
    """
    Answer with one line of JSON.
    """
    text = json.dumps({name: _bounded(value) for name, value in answer.items()})
    channel.sendall(text.encode() + b"\n")


def _bounded(value: object) -> object:
    return value[: LONGEST_ANSWER_BYTES // 8] if isinstance(value, str) else value


def try_application(
    channel: socket.socket,
    leader: int | None,
    install_reactor: Callable[[str], Any],
    prepare: Callable[[], None],
) -> int:
    """
    Import the application as a worker would, and make the host that would serve it.

    :param channel: blocking; remains the caller's.  One line of JSON comes, with the
        ``settings``, the primary's ``path``, and how many ``workers`` there will be.  What goes
        back, a line each: that we have begun; and the ``verdict``, empty or what is wrong.  If
        anything more comes meanwhile, it asks where we are, and the answer is that.  At its end
        nobody waits for the verdict any more: this process ends, with all that the application
        has started.
    :param leader: who leads the process group that is killed then.
    :param prepare: called before the import.
    :return: the exit code.
    """
    asked = json.loads(_read_line(channel))
    tell(channel, began=True)
    sys.path.extend(entry for entry in asked["path"] if entry not in sys.path)
    settings = Settings.from_json(asked["settings"])
    leadership.forbid()
    this_worker.begin(NO_SLOT, settings.workers, settings.node)
    own = threading.get_ident()

    def answer_where() -> None:
        while channel.recv(1):
            tell(channel, where=_whereabouts(own))
        _end_groups(leader)

    threading.Thread(target=answer_where, name="trial", daemon=True).start()
    verdict = trace = ""
    try:
        reactor = install_reactor(settings.worker_reactor)
        prepare()
        import_ahead(settings, reactor)
        keys = [bytes.fromhex(key) for key in asked["session_keys"]]
        warnings = _build_in_loop(reactor, settings, keys, asked["workers"])
        tell(channel, warnings=warnings[:MOST_WARNINGS])
    except OperatorError as problem:
        verdict = str(problem)
        trace = getattr(problem, "trace", "")
    tell(channel, trace=trace.split("\n"), verdict=verdict)
    return 1 if verdict else 0


def _read_line(channel: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        data = channel.recv(65536)
        if not data:
            raise SystemExit(0)  # Who asked is gone.
        line += data
    return line


def _whereabouts(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    named = places(traceback.extract_stack(frame)) if frame is not None else []
    return ", from ".join(named)


def _build_in_loop(
    reactor: Any, settings: Settings, session_keys: list[bytes], workers: int
) -> list[str]:
    """
    Make all that serves, while the loop runs: factories may need it, as under uvicorn.

    :param workers: how many will serve it.
    :return: what an operator should know.
    """
    # Not above: the reactor must be installed before anything imports it.
    from stickyd.worker.build_host import build_host, open_access_log
    from stickyd.worker.server import session_registry

    def build() -> tuple[ISessionStore, list[str]]:
        access_log = open_access_log(settings.access_log)
        try:
            sessions = session_registry(settings, reactor, session_keys)
            host = build_host(settings, reactor, sessions, access_log)
            warnings = unshared(workers)
            if settings.application is not None and settings.application[0].startswith("wsgi"):
                kind, name = settings.application
                warnings += green_threads(f"--{kind}", name)
            del host  # what it holds of the application was to be looked at
        finally:
            if access_log is not None:
                access_log.close()
        return sessions.store, warnings

    async def try_store(store: ISessionStore, warnings: list[str]) -> list[str]:
        await store.start(NO_SLOT)
        warnings += await store.check()
        await store.stop()
        return warnings

    async def build_soon(loop: asyncio.AbstractEventLoop) -> list[str]:
        await check_bus(settings)
        trying = Deferred.fromCoroutine(try_store(*build()))
        found: list[str] = await trying.asFuture(loop)
        return found

    loop = loop_of(reactor)
    if loop is None:
        return result_of(Deferred.fromCoroutine(try_store(*build())))
    return loop.run_until_complete(build_soon(loop))
