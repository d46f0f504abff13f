"""
What operators may ask of a running primary: the socket of ``--control``.

It speaks the AMP commands of :mod:`stickyd.control.commands`.  The file is readable and
writable for its owner alone before anybody can connect, and the kernel is asked which user
connects (``SO_PEERCRED``, unix(7)), so that a directory copied with other modes opens nothing.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from typing_extensions import override

from stickyd.control.commands import OPERATOR_VERSION, ControlProtocol, Explain, adopt_control
from stickyd.errors import ListenError, OperatorError
from stickyd.explain import Client, Explanation
from stickyd.net.accept_loop import AcceptLoop
from stickyd.net.readiness import readiness_of
from stickyd.net.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

_CREDENTIALS = struct.Struct("3i")

#: How many connections the kernel queues.
_BACKLOG = 16

#: How many may be connected at a time; the next ones wait in the kernel's queue.
MOST_OPERATORS = 16

#: How many seconds a connection may last: a question and its answer take milliseconds.
OPERATOR_SECONDS = 30.0

#: Seconds between two lines in the log about connections that do not speak the protocol.
QUIET_SECONDS = 10.0


class Operator(ControlProtocol):
    """
    The connection of one operator.

    :ivar objection: why nothing is answered; empty if it is.
    """

    def __init__(
        self,
        explain: Callable[[Client], Explanation],
        objection: str,
        ended: Callable[[Operator], object],
        broke: Callable[[str], object],
    ) -> None:
        """
        :param ended: told when it has closed.
        :param broke: told what was said that is not of the protocol.
        """
        super().__init__(same_version=False)
        self._explain = explain
        self._ended = ended
        self._broke = broke
        self.objection = objection

    @override
    def breach(self, problem: str) -> None:
        self._broke(problem)
        super().breach(problem)

    @Explain.responder
    def explain(
        self, version: int, address: bytes, headers: list[bytes], target: bytes, server_name: bytes
    ) -> dict[str, object]:
        if self.objection:
            raise OperatorError(self.objection)
        if version != OPERATOR_VERSION:
            raise OperatorError(
                f"the server speaks version {OPERATOR_VERSION} of the control protocol, and this"
                f" is version {version}; ask with the stickyd that the server runs"
            )
        pairs = [_text(line).partition(":")[::2] for line in headers]
        client = Client(_text(address), pairs, _text(target), _text(server_name))
        found = self._explain(client)
        worker = found.worker
        return {
            "entry": found.entry,
            "key": found.key,
            "slot": -1 if found.slot is None else found.slot,
            "pid": 0 if worker is None else worker.pid,
            "state": "" if worker is None else worker.state,
            "reasons": list(found.reasons),
        }

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._ended(self)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def peer_uid(sock: socket.socket) -> int | None:
    """
    The user at the other end of a UNIX socket; None where the kernel does not tell.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(told)[1]
    return uid


class ControlSocket(Service):
    """
    Answers operators as long as it runs.

    :ivar path: of the socket, absolute; empty if there is none.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        path: str,
        explain: Callable[[Client], Explanation],
        inherited: Mapping[str, Any] | None = None,
        uid_of: Callable[[socket.socket], int | None] = peer_uid,
    ) -> None:
        """
        :param path: the setting; empty to answer nobody.
        :param explain: answers; :meth:`stickyd.service.StickyService.explain`.
        :param inherited: the state of a former self, with what :meth:`dump_state` gave.
        :param uid_of: tells which user is at the other end.
        """
        self._reactor = reactor
        self._explain = explain
        self._uid_of = uid_of
        # Where we are now: a daemon goes elsewhere, and takes the file away at its end.
        self.path = os.path.abspath(path) if path else ""
        former = None if inherited is None else inherited.get("api")
        self._upgraded = inherited is not None
        self._former = None if former is None else socket.socket(fileno=former["descriptor"])
        self._socket: socket.socket | None = None
        self._loop: AcceptLoop | None = None
        self._operators: dict[Operator, IDelayedCall] = {}
        self._throttle = Throttle(reactor.seconds, QUIET_SECONDS)

    @override
    def startService(self) -> None:
        """
        Answer from now on.

        :raises ListenError: if the path cannot be listened on.  A primary that has
            replaced itself logs that instead, as it has clients.
        """
        super().startService()
        former, self._former = self._former, None
        if former is not None and former.getsockname() != self.path:
            _remove(former)
            former = None
        if not self.path:
            return
        try:
            sock = listening_at(self.path) if former is None else former
        except ListenError as problem:
            if not self._upgraded:
                raise
            self._log.error("{problem}", event="control.not-open", problem=problem)
            return
        sock.setblocking(False)
        sock.set_inheritable(False)
        self._socket = sock
        readiness = readiness_of(self._reactor)
        self._loop = AcceptLoop(
            self._reactor,
            readiness,
            sock,
            self._accepted,
            lambda: MOST_OPERATORS - len(self._operators),
        )
        self._loop.start()
        self._log.info("Operators are answered at {path}", event="control.open", path=self.path)

    def _accepted(self, descriptor: int, host: str, port: int) -> None:
        with socket.socket(fileno=descriptor) as sock:
            sock.setblocking(False)
            uid = self._uid_of(sock)
            objection = ""
            if uid not in (None, 0, os.geteuid()):
                objection = "not permitted: only the user that runs the server, and root, may ask"
                self._log.warn(
                    "User {uid} may not ask at {path}",
                    event="control.refused",
                    uid=uid,
                    path=self.path,
                )
            operator = Operator(self._explain, objection, self._ended, self._broke)
            adopt_control(self._reactor, descriptor, operator)
            transport: Any = operator.transport
            self._operators[operator] = self._reactor.callLater(
                OPERATOR_SECONDS, transport.abortConnection
            )

    def _ended(self, operator: Operator) -> None:
        overdue = self._operators.pop(operator)
        if overdue.active():
            overdue.cancel()
        if self._loop is not None:
            self._loop.start()

    def _broke(self, problem: str) -> None:
        if self._throttle.due():
            self._log.warn(
                "Connection closed at {path}: it does not speak the control protocol, but sent"
                " {problem}",
                event="control.broken-protocol",
                path=self.path,
                problem=problem,
            )

    def dump_state(self) -> dict[str, Any]:
        """
        The listening socket as JSON can carry it, for a primary that replaces itself.
        """
        return {} if self._socket is None else {"api": {"descriptor": self._socket.fileno()}}

    @override
    def stopService(self) -> None:
        """
        Answer no more, and take the file away.
        """
        super().stopService()
        if self._socket is not None and self._loop is not None:
            self._loop.pause()
            _remove(self._socket)
            self._socket = self._loop = None
        for operator in list(self._operators):
            assert operator.transport is not None
            operator.transport.loseConnection()


def listening_at(path: str) -> socket.socket:
    """
    Listen on a UNIX socket that only its owner may connect to.

    A file that a dead server has left is replaced.

    :raises ListenError: if somebody answers there, something else is there, or the
        path cannot be had.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        try:
            sock.bind(path)
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise
            _require_stale(path)
            os.unlink(path)
            sock.bind(path)
        # Nobody can connect before the call that follows.
        os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
        sock.listen(_BACKLOG)
    except OSError as problem:
        sock.close()
        reason = problem.strerror or str(problem)
        raise ListenError(f"--control {path}: cannot listen there: {reason}") from None
    except ListenError:
        sock.close()
        raise
    return sock


def _require_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ListenError(f"--control {path}: there is a file of that name, which is no socket")
    with socket.socket(socket.AF_UNIX) as trial:
        # A server with a full queue is alive too.
        trial.setblocking(False)
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass
    raise ListenError(
        f"--control {path}: a server answers there already; give each one a path of its own"
    )


def _remove(sock: socket.socket) -> None:
    path = sock.getsockname()
    sock.close()
    with suppress(OSError):
        os.unlink(path)
