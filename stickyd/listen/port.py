"""
Accepting connections in the primary, two ways with one outcome.

:class:`StickyFactory` is an ordinary protocol factory, for any stream endpoint: each
connection is detached from its transport before a byte is read.  Where the endpoint gave
a plain stream port, :class:`AcceptLoop` takes over its socket: no transport and no
protocol are built to be thrown away, which is half of the primary's cost.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Port
from twisted.logger import Logger
from typing_extensions import override

from stickyd.errors import ListenError
from stickyd.handoff.detach import detach
from stickyd.handoff.frame import Handoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import (
        IAddress,
        IDelayedCall,
        IListeningPort,
        IReactorTime,
        ITransport,
    )

    from stickyd.interfaces import IDestination, IReadiness

#: How many connections one wake-up accepts, so that a flood leaves room for other work.
BATCH = 64

#: accept(2): want of descriptors or memory.  The connection stays in the kernel's queue.
OVERLOADS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: Seconds without accepting after such an overload.
PAUSE = 0.1

#: Seconds between two lines in the log about overloads.
QUIET = 10.0


class _Passing(Protocol):
    """
    Lives for as long as it takes to detach its transport.
    """

    _log = Logger()

    def __init__(self, factory: StickyFactory, host: str, port: int) -> None:
        self._factory = factory
        self._host = host
        self._port = port

    @override
    def makeConnection(self, transport: ITransport) -> None:
        try:
            descriptor = detach(transport)
        except ListenError as problem:
            self._log.error("Connection of {host} closed: {problem}", host=self._host,
                            problem=problem)  # fmt: skip
            transport.loseConnection()
            return
        self._factory.accepted(descriptor, self._host, self._port)


class StickyFactory(Factory):
    """
    Passes each connection on to a destination.

    Put it on any plain stream endpoint of your own::

        endpoint.listen(service.factory)

    It never reads from a connection.  Endpoints that terminate TLS or speak PROXY in the
    primary cannot be used: their connections consist of more than a descriptor.
    """

    noisy = False

    def __init__(
        self,
        destination: IDestination,
        key_of: Callable[[str], bytes],
        sniff: Callable[[int, str, int], None] | None = None,
    ) -> None:
        """
        :param key_of: the affinity key of a host.
        :param sniff: takes each accepted connection, where its address is not enough to
            choose a destination.
        """
        if sniff is not None:
            self.accepted = sniff  # type: ignore[assignment]  # a method, to mypy
        self._deliver = destination.deliver
        self._key_of = key_of

    @override
    def buildProtocol(self, addr: IAddress | None) -> _Passing:
        # A UNIX address has neither.
        return _Passing(self, getattr(addr, "host", ""), getattr(addr, "port", 0))

    def accepted(self, descriptor: int, host: str, port: int) -> None:
        """
        Pass on one accepted connection; its descriptor is the destination's from now on.
        """
        self._deliver(Handoff(descriptor, host, port, self._key_of(host)))


class AcceptLoop:
    """
    Accepts from a listening socket with as little as can be done.

    An overload of descriptors or memory pauses it: to go on would be to spin, since the
    connection stays in the queue and the socket readable.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        readiness: IReadiness,
        sock: socket.socket,
        accepted: Callable[[int, str, int], None],
    ) -> None:
        """
        :param sock: a non-blocking listening stream socket; whoever made it closes it.
        :param accepted: takes descriptor, host and port of each connection.
        """
        self._clock = clock
        self._readiness = readiness
        self._socket = sock
        self._accepted = accepted
        self._has_ports = sock.family in (socket.AF_INET, socket.AF_INET6)
        self._pause: IDelayedCall | None = None
        self._stopped = False
        self._told = -QUIET
        #: How often it had to pause.
        self.overloads = 0

    def start(self) -> None:
        """
        Accept from now on.
        """
        self._readiness.add_reader(self._socket.fileno(), self._readable)

    def pause(self) -> None:
        """
        Accept nothing until :meth:`start`: newcomers wait in the kernel's queue.
        """
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        else:
            self._readiness.remove_reader(self._socket.fileno())

    def stop(self) -> None:
        """
        Accept no more, after what is in the kernel's queue: closing a listening socket
        resets the connections that wait in it.
        """
        self._stopped = True
        self.pause()
        for _ in range(socket.SOMAXCONN * 2):
            if not self._accept(BATCH):
                break

    def _readable(self) -> None:
        self._accept(BATCH)

    def _accept(self, most: int) -> bool:
        """
        Accept up to ``most`` connections.

        :return: whether there may be more.
        """
        # accept() of the socket class costs twice as much, for a socket object that
        # would be taken apart at once; this one is accept4(2) with SOCK_CLOEXEC.
        accept = self._socket._accept  # type: ignore[attr-defined]
        accepted = self._accepted
        has_ports = self._has_ports
        for _ in range(most):
            try:
                descriptor, address = accept()
            except BlockingIOError:
                return False
            except OSError as problem:
                if problem.errno in OVERLOADS:
                    self._overloaded(problem)
                    return False
                # accept(2): errors of the new connection (ECONNABORTED, EPERM, network
                # errors) are to be treated like EAGAIN; the next one may be sound.
                continue
            if has_ports:
                accepted(descriptor, address[0], address[1])
            else:
                accepted(descriptor, "", 0)
        return True

    def _overloaded(self, problem: OSError) -> None:
        self.overloads += 1
        now = self._clock.seconds()
        if now - self._told >= QUIET:
            self._told = now
            self._log.warn(
                "Accepting pauses for {pause:g} s at a time: {problem}. Raise the limit of"
                " open files (ulimit -n, LimitNOFILE=) if this stays",
                pause=PAUSE,
                problem=os.strerror(problem.errno or 0),
            )
        if self._pause is None and not self._stopped:
            self._readiness.remove_reader(self._socket.fileno())
            self._pause = self._clock.callLater(PAUSE, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self.start()


def plain_socket(port: IListeningPort, factory: Factory) -> socket.socket | None:
    """
    The listening socket of a port, if accepting from it directly is the same as letting
    the port accept.

    :return: :obj:`None` if the endpoint put something of its own between its port and
        ``factory``, or is of a kind that we do not know.
    """
    if isinstance(port, Port) and port.factory is factory:
        sock = port.socket
        assert isinstance(sock, socket.socket)
        return sock
    return None
