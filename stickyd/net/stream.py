"""
The socket machinery under both faces of a worker's plain connection.

Theory of operation.  Three ideas save most of what a connection costs elsewhere:

- *Read first.*  An adopted connection nearly always has its request waiting, so it is
  read at once and registered with the loop only after that, if it is still open.  A
  client that sends one request per connection never touches epoll.
- *Corks.*  See :mod:`stickyd.net.stream_output`.  Nothing ends inside a call of
  the protocol either: the end of the call looks what there is to do
  (:meth:`SocketCore._uncork`).
- *Lazy pauses.*  Pausing sets a flag; the reader is removed only if it fires while
  paused.  Protocols that pause for the length of every request cost no ``epoll_ctl``.

Per turn of the loop a connection does at most one ``recv`` and one send, so that a
busy one does not starve the others: readers are level-triggered and fire again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import UNIXAddress

from stickyd.net.addresses import address_of
from stickyd.net.stream_end import SocketEnd
from stickyd.net.stream_output import connection_lost

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from twisted.internet.interfaces import IAddress

    from stickyd.interfaces import IReadiness

READ_BYTES = 65536
"""
At most this many bytes are read in one turn.
"""


class SocketCore(SocketEnd):
    """
    A connected, non-blocking stream socket, from its first read to its end.

    Subclasses are the faces that protocols see.
    """

    _ended = False  # the client has sent EOF

    def __init__(
        self,
        readiness: IReadiness,
        sock: socket,
        peer: IAddress,
        initial: bytes = b"",
        host: IAddress | None = None,
    ) -> None:
        """
        Take over a socket.  Nothing happens until :meth:`start`.

        :param readiness: the loop.
        :param sock: connected and non-blocking; the transport closes it.
        :param peer: the client's address, which a PROXY header may have told.
        :param initial: bytes that were read from the connection before; the protocol
            gets them first.
        :param host: our own address, or :obj:`None` to ask the socket when needed.
        """
        super().__init__(readiness, sock, delaying=type(peer) is not UNIXAddress)
        self._peer = peer
        self._host = host
        self._unread = initial

    def start(self, protocol: Any) -> None:
        """
        Connect a protocol, and serve what the client has already sent.
        """
        self.protocol = protocol
        self._corked = True
        try:
            self._open()
            if self._unread and not self._paused:
                self._feed(self._take_unread())
        except Exception as error:  # noqa: BLE001 - ends its connection only
            self._crash(error)
        if not self._paused:
            self._readable()
        if self._corked:
            self._uncork()

    def detach(self) -> tuple[socket, bytes]:
        """
        Give the connection away.  The protocol is not told.

        Allowed while the connection is open, nothing is left to write and no producer
        is registered.

        :return: the socket, non-blocking, which the caller now closes; and the bytes
            that were read from it but given to nobody.
        :raise RuntimeError: if it is not allowed; nothing has changed then.
        """
        if self._chunks and not self._writing:
            self._flush()
        if self._chunks or self._attention or self._mute or self.disconnecting:
            raise RuntimeError("a connection that is writing or closing cannot be detached")
        self._stop_watching()
        self._retire()
        self.protocol = None
        return self.socket, self._take_unread()

    # What the faces add: calls of the protocol.

    def _open(self) -> None:
        """
        Tell the protocol that it is connected.
        """
        raise NotImplementedError

    def _feed(self, data: bytes) -> None:
        """
        Give the protocol some input.
        """
        raise NotImplementedError

    def _input_ended(self) -> None:
        """
        Tell the protocol that the client will send no more.
        """
        raise NotImplementedError

    # Reading.

    def _readable(self) -> None:
        if self._paused:
            self._stop_watching()
            return
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(connection_lost(error))
            return
        if not data:
            self._end_input()
            return
        self._spoken = False
        self._dry = len(data) < READ_BYTES
        self._corked = True
        try:
            self._feed(data)
        except Exception as error:  # noqa: BLE001 - ends its connection only
            self._crash(error)
        self._uncork()

    def _end_input(self) -> None:
        self._paused = self._ended = self._dry = True
        # A socket at EOF stays readable: the loop would spin.
        self._stop_watching()
        if self._corked:
            # start() found the EOF: what the protocol wrote there goes out first.
            self._uncork()
        if self.connected and not self.disconnecting:
            self._call(self._input_ended)

    def _take_unread(self) -> bytes:
        unread, self._unread = self._unread, b""
        return unread

    def _pause(self) -> None:
        self._paused = True

    def _resume(self) -> None:
        if not self._paused or self._ended or self.disconnecting or not self.connected:
            return
        self._paused = False
        if self._unread:
            self._schedule()
        elif not self._corked:
            self._watch()
        # Else start() reads, or _uncork() watches.

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._readiness.add_reader(self._descriptor, self._readable)

    # The end of a call of the protocol.

    def _call(self, function: Callable[[], object]) -> None:
        """
        Call the protocol, corked.
        """
        self._corked = True
        try:
            function()
        except Exception as error:  # noqa: BLE001 - ends its connection only
            self._crash(error)
        self._uncork()

    def _uncork(self) -> None:
        self._corked = False
        if self._chunks and not self._writing:
            self._flush()
        if self._attention and not self._chunks:
            self._emptied()
        if not self._watching and not self._paused:
            self._watch()

    def _turn(self) -> None:
        self._scheduled = self._dry = False
        if not self.connected:
            return
        if self._unread and not self._paused:
            self._call(lambda: self._feed(self._take_unread()))
        else:
            self._uncork()

    def _address(self) -> Any:
        """
        Find our own address, unless it was given: most connections never need it.

        :raise OSError: if it was never asked for before the socket was closed.
        """
        if self._host is None:
            self._host = address_of(self.socket)
        return self._host
