"""
The control socket: where operators ask a running primary.

The file is readable and writable for its owner alone before anybody can connect, and the kernel
is asked which user connects (``SO_PEERCRED``, unix(7)), so that a directory copied with other
modes opens nothing.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Any, cast

from twisted.application.service import Service
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from typing_extensions import override

from stickyd.errors import ListenError, OperatorError
from stickyd.net.accept_loop import AcceptLoop
from stickyd.net.peer_process import peer_uid
from stickyd.net.readiness import readiness_of
from stickyd.net.socket_file import bind_at, close_with_file
from stickyd.net.throttle import Throttle
from stickyd.operate.conversation import Conversation
from stickyd.operate.place import AUTO, OFF, directories, name_of, prepare, remove_stale

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stickyd.operate.conversation import Run

#: How many connections the kernel queues.
_BACKLOG = 64

#: How many may be connected at a time; the next ones wait in the kernel's queue.
MOST_OPERATORS = 64

#: Seconds between two lines in the log about connections that do not speak the protocol.
QUIET_SECONDS = 10.0


class ControlSocket(Service):
    """
    Answers operators as long as it runs.

    :ivar path: of the socket, absolute; empty while there is none.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        control: str,
        run: Run,
        inherited: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] = os.environ,
        uid_of: Callable[[socket.socket], int | None] = peer_uid,
    ) -> None:
        """
        :param control: the setting: a path; ``auto`` to choose one; ``off``, or empty, to
            answer nobody.
        :param run: carries commands out; :meth:`stickyd.operate.table.Commands.run`.
        :param inherited: the state of a former self, with what :meth:`dump_state` gave.
        :param uid_of: tells which user is at the other end.
        """
        self._reactor = reactor
        self._run = run
        self._uid_of = uid_of
        self._environment = environment
        self._chooses = control == AUTO
        # Where we are now: a daemon goes elsewhere, and takes the file away at its end.
        self._named = "" if control in (AUTO, OFF, "") else os.path.abspath(control)
        self.path = ""
        former = None if inherited is None else inherited.get("api")
        self._upgraded = inherited is not None
        self._former = None if former is None else socket.socket(fileno=former["descriptor"])
        self._socket: socket.socket | None = None
        self._loop: AcceptLoop | None = None
        self._conversations: set[Conversation] = set()
        self._throttle = Throttle(reactor.seconds, QUIET_SECONDS)

    @override
    def startService(self) -> None:
        """
        Answer from now on.

        :raises ListenError: if a path that was named cannot be listened on.  A primary that has
            replaced itself logs that instead, as it has clients; and if no path can be
            chosen, there is a line too, and no socket.
        """
        super().startService()
        former, self._former = self._former, None
        if former is not None and not self._stays(former.getsockname()):
            close_with_file(former)
            former = None
        try:
            sock = former or self._listen()
        except ListenError as problem:
            if not (self._upgraded or self._chooses):
                raise
            if self._named:
                self._log.error("{problem}", event="control.not-open", problem=problem)
            else:
                self._log.warn("{problem}", event="control.nowhere", problem=problem)
            return
        if sock is None:
            return
        self.path = sock.getsockname()
        sock.setblocking(False)
        sock.set_inheritable(False)
        self._socket = sock
        readiness = readiness_of(self._reactor)
        self._loop = AcceptLoop(
            self._reactor,
            readiness,
            sock,
            self._accepted,
            lambda: MOST_OPERATORS - len(self._conversations),
        )
        self._loop.start()
        self._log.info("Operators are answered at {path}", event="control.open", path=self.path)

    def _stays(self, path: str) -> bool:
        """
        Whether a former self has listened where we would.
        """
        if not self._chooses:
            return path == self._named
        return path in (os.path.join(each, name_of(os.getpid())) for each in self._directories())

    def _directories(self) -> list[str]:
        return list(directories(self._environment, os.geteuid()))

    def _listen(self) -> socket.socket | None:
        """
        :raises ListenError: if there is nowhere to listen.
        """
        if self._named:
            return listening_at(self._named)
        if not self._chooses:
            return None
        problems = []
        for directory in self._directories():
            try:
                given = directory == self._environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
                prepare(directory, os.geteuid(), given)
                remove_stale(directory)
                return listening_at(os.path.join(directory, name_of(os.getpid())))
            except OperatorError as problem:
                problems.append(str(problem))
        raise ListenError(
            f"There is no control socket for stickyctl: {'; '.join(problems)}. Name a path by"
            " --control, or write --control off"
        )

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
            conversation = Conversation(
                self._reactor, self._run, objection, self._ended, self._broke
            )
            factory = cast("ServerFactory", ServerFactory.forProtocol(lambda: conversation))
            self._conversations.add(conversation)
            self._reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, factory)

    def _ended(self, conversation: Conversation) -> None:
        self._conversations.discard(conversation)
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
            close_with_file(self._socket)
            self._socket = self._loop = None
        for conversation in list(self._conversations):
            conversation.close()


def listening_at(path: str) -> socket.socket:
    """
    Listen on a UNIX socket that only its owner may connect to.

    A file that a dead server has left is replaced.

    :raises ListenError: if somebody answers there, something else is there, or the
        path cannot be had.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        bind_at(
            sock,
            path,
            f"--control {path}: there is a file of that name, which is no socket",
            f"--control {path}: a server answers there already; give each one a path of its own",
        )
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
