"""
A connected stream socket on any reactor: read, written and closed.

Theory of operation.  Three ideas save most of what a connection costs elsewhere:

- *Read first.*  An adopted connection nearly always has its request waiting, so it is
  read at once and registered with the loop only after that, if it is still open.  A
  connection that is closed behind its only answer never touches epoll.
- *Corks.*  What a protocol writes while it is being called is collected and leaves in one
  system call when it returns; at other times a write goes to the kernel at once.  Nothing
  ends inside a call of the protocol either, but when the call returns
  (:meth:`Stream._uncork`), or in the next turn of the loop.  What is written last leaves in
  one packet with the FIN, which is a fifth of what an answer on a connection of its own costs.
- *Lazy pauses.*  Pausing sets a flag; the reader is removed only if it fires while
  paused.  Protocols that pause for the length of every request cost no ``epoll_ctl``.

Per turn of the loop a connection does at most one ``recv`` and one send, so that a
busy one does not starve the others: readers are level-triggered and fire again.

The file is longer than most because reading, writing and ending share a dozen flags that the
system calls of one socket decide; what does not share them (the buffer, the lingering close,
addresses) has a file of its own.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from socket import SHUT_WR, SO_ERROR, SOL_SOCKET
from typing import TYPE_CHECKING, Any

from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyd.net.addresses import address_of, name_of
from stickyd.net.lingering_close import LingeringClose, hang_up, reset
from stickyd.net.send_buffer import SendBuffer
from stickyd.net.stall_timer import StallTimer

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from twisted.internet.interfaces import IAddress

    from stickyd.interfaces import IReadiness
    from stickyd.net.file_chunk import FileChunk

#: At most this many bytes are read in one turn.
READ_BYTES = 65536

#: More output than this that the kernel does not take is congestion, unless a face says otherwise.
HIGH_WATER_BYTES = 65536


def failure_of(error: BaseException) -> Failure:
    """
    Wrap an error, with its traceback if it was raised.
    """
    return Failure(error)  # Twisted has not annotated it


def connection_lost(error: OSError) -> Failure:
    """
    Say in Twisted's words why a connection broke.

    :return: a failure of :exc:`ConnectionLost` whose ``__cause__`` is ``error``.
    """
    lost = ConnectionLost(str(error))
    lost.__cause__ = error
    return failure_of(lost)


class Stream(ABC):
    """
    A connected, non-blocking stream socket, from its first read to its end.

    There are two faces, of which protocols see one:
    :class:`~stickyd.net.twisted_transport.SocketTransport` and
    :class:`~stickyd.net.asyncio_transport.LoopTransport`.  A face says how its protocol is
    called (the abstract methods), and speaks the transport's methods of its framework.

    :ivar protocol: what is served; may be replaced at any time.
    :ivar socket: the socket, which this object closes.
    :ivar connected: until the connection has ended or was detached.
    :ivar disconnecting: it ends as soon as the output is written.
    :ivar disconnected: it has ended, or was detached.
    :ivar corked: what is written is collected, and leaves when the call of the protocol, or this
        turn of the loop, is over.
    :ivar lingering: set it before closing when the client is known to be still sending
        (the rest of a request's body): the input is then read and dropped, until the
        output is written and for a while after it, for the client to get its response and
        not a reset.
    """

    _log = Logger()

    # What few connections ever change stands here; what every request asks for is the
    # instance's own from the start, since CPython finds that several times faster.
    protocol: Any = None
    producer: Any = None  # goes on writing though it is closed
    connected = True
    disconnected = False
    lingering = False
    _stall_timer: StallTimer | None = None  # while output waits
    _doomed = False  # _end() will be called
    _ended = False  # the client has sent EOF
    _scheduled = False  # _turn() will be called
    _high_bytes = HIGH_WATER_BYTES

    def __init__(
        self,
        readiness: IReadiness,
        sock: socket,
        peer: IAddress,
        initial: bytes = b"",
        host: IAddress | None = None,
        stall_seconds: float | None = None,
    ) -> None:
        """
        Take over a socket.  Nothing happens until :meth:`start`.

        :param readiness: the loop.
        :param sock: connected and non-blocking; the transport closes it.
        :param peer: the client's address, which a PROXY header may have told.
        :param initial: bytes that were read from the connection before; the protocol
            gets them first.
        :param host: our own address, or :obj:`None` to ask the socket when needed.
        :param stall_seconds: a client that takes nothing of the output for so long is cut off;
            never, if it is :obj:`None`.
        """
        self._readiness = readiness
        self.socket = sock
        self._descriptor = sock.fileno()
        self._peer = peer
        self._host = host
        self._stall_seconds = stall_seconds
        self._unread = initial
        self._output = SendBuffer(sock, delaying=type(peer) is not UNIXAddress)
        self._chunks = self._output.chunks
        self.disconnecting = False
        self._mute = False  # drop what is written: our side is shut, or it is over
        self.corked = False
        self._attention = False  # call _emptied() when all is written
        self._writing = False  # the loop has our writer
        self._dry = False  # the last read, in this very turn, took all there was
        self._paused = False  # do not read: paused, closing, at EOF, or over
        self._watching = False  # the loop has our reader

    # What the faces add: calls of the protocol, and what a full or empty buffer means.

    @abstractmethod
    def _open(self) -> None:
        """
        Tell the protocol that it is connected.
        """

    @abstractmethod
    def _feed(self, data: bytes) -> None:
        """
        Give the protocol some input.
        """

    @abstractmethod
    def _input_ended(self) -> None:
        """
        Tell the protocol that the client will send no more.
        """

    @abstractmethod
    def _lost(self, reason: Failure) -> None:
        """
        Tell the protocol that the connection is over.
        """

    @abstractmethod
    def _congested(self) -> None:
        """
        More than :attr:`_high_bytes` bytes wait, and the kernel takes no more for now.
        """

    @abstractmethod
    def _emptied(self) -> None:
        """
        All output has been written, and somebody waited for it.
        """

    @abstractmethod
    def _eased(self) -> None:
        """
        The loop has written a part of the output; more waits.
        """

    # Start and detachment.

    def start(self, protocol: Any) -> None:
        """
        Connect a protocol, and serve what the client has already sent.
        """
        self.protocol = protocol
        self.corked = True
        try:
            self._open()
            if self._unread and not self._paused:
                self._feed(self._take_unread())
        except Exception as error:  # noqa: BLE001 - ends its connection only
            self._crash(error)
        if not self._paused:
            self._readable()
        if self.corked:
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

    def is_broken(self) -> bool:
        """
        Tell whether the client has reset the connection.  It is for when nothing is read any
        more; else reading tells.
        """
        return self.connected and self.socket.getsockopt(SOL_SOCKET, SO_ERROR) != 0

    # Reading.

    @property
    def watched(self) -> bool:
        """
        Whether the loop has our reader.
        """
        return self._watching

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
        if self.disconnecting:
            return  # A client that is still sending reads nothing before it has done.
        self._output.heard()
        self._dry = len(data) < READ_BYTES
        self.corked = True
        try:
            self._feed(data)
        except Exception as error:  # noqa: BLE001 - ends its connection only
            self._crash(error)
        self._uncork()

    def _end_input(self) -> None:
        self._paused = self._ended = self._dry = True
        if self._watching:
            # A socket at EOF stays readable: the loop would spin.
            self._stop_watching()
        if self.corked:
            # start() found the EOF: what the protocol wrote there goes out first.
            self._uncork()
        if self.connected and not self.disconnecting:
            if not self._chunks and self._ends_with_input():
                self._end(connectionDone)
            else:
                self._call(self._input_ended)

    def _ends_with_input(self) -> bool:
        """
        Tell whether the protocol has nothing more to say to a client that says no more.
        """
        return False

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
        elif not self.corked:
            self._watch()
        # Else start() reads, or _uncork() watches.

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._readiness.add_reader(self._descriptor, self._readable)

    def _stop_watching(self) -> None:
        if self._watching:
            self._watching = False
            self._readiness.remove_reader(self._descriptor)

    # Writing.

    def get_write_buffer_size(self) -> int:
        """
        Count the bytes that the kernel has not taken yet.
        """
        return self._output.size_bytes

    def _put(self, data: bytes) -> None:
        """
        Send some bytes, or keep them.
        """
        self._output.append(data)
        if not self.corked or self._output.size_bytes > self._high_bytes:
            self._offer()

    def send_file(self, chunk: FileChunk) -> None:
        """
        Send a part of a file behind all that was written.

        :param chunk: closed when it is sent, or never will be.
        """
        if self._mute or not len(chunk):
            chunk.close()
            return
        self._output.append_file(chunk)
        if not self.corked or self._output.size_bytes > self._high_bytes:
            self._offer()

    def _offer(self) -> None:
        """
        Send what was written, which is much or is not collected, unless the loop does.
        """
        if not self._writing:
            self._flush()
            if self._attention and not self._chunks and not self.corked:
                self._schedule()
        if self._output.size_bytes > self._high_bytes:
            self._congested()

    def _flush(self, last: bool = False) -> None:
        """
        Offer the output to the kernel, once, and watch for more room if it is needed.

        :param last: the FIN follows as soon as the kernel has taken all.
        """
        size_bytes = self._output.size_bytes
        try:
            sent_all = self._output.send(last)
        except OSError as error:
            self._doom(connection_lost(error))
            return
        if not sent_all:
            if not self._writing:
                self._writing = True
                self._readiness.add_writer(self._descriptor, self._writable)
                if self._stall_seconds is not None:
                    self._stall_timer = StallTimer(
                        self._readiness, self._stall_seconds, self._abort
                    )
            elif self._stall_timer is not None and self._output.size_bytes < size_bytes:
                self._stall_timer.note_taking()
        elif self._writing:
            self._stop_writing()

    def _writable(self) -> None:
        self._dry = False
        self._flush()
        if not self._chunks:
            if self._attention:
                self._emptied()
        else:
            self._eased()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._readiness.remove_writer(self._descriptor)
            if self._stall_timer is not None:
                self._stall_timer.stop()
                self._stall_timer = None

    def _discard_output(self) -> None:
        self._stop_writing()
        if self._chunks:
            self._output.clear()

    def _expect_empty(self, wanted: bool) -> None:
        """
        Have :meth:`_emptied` called when all is written, or not any more.
        """
        self._attention = wanted and not self._doomed

    def _await_empty(self) -> None:
        """
        Have :meth:`_emptied` called, never from inside this call.
        """
        self._attention = True
        if not self.corked and not self._writing:
            self._schedule()

    # Calls of the protocol, and the turns of the loop.

    def _call(self, function: Callable[[], object]) -> None:
        """
        Call the protocol, corked.
        """
        self._call_corked(function)
        self._uncork()

    def _call_corked(self, function: Callable[[], object]) -> None:
        """
        Call the protocol, and leave it corked.
        """
        self.corked = True
        try:
            function()
        except Exception as error:  # noqa: BLE001 - ends its connection only
            self._crash(error)

    def call(self, function: Callable[[], object]) -> None:
        """
        Call something that writes, and perhaps closes the connection: both take effect when it
        has returned, and not in the next turn.
        """
        if self.corked or not self.connected:
            function()
        else:
            self._call(function)

    def _call_once_a_turn(self, function: Callable[[], object]) -> None:
        """
        Call the protocol, and stay corked until the next turn if it has written: so it does
        one step per turn, and what it writes in that leaves in one send.
        """
        self._call_corked(function)
        if self._chunks:
            self._schedule()
            return
        self.corked = False
        if not self._watching and not self._paused:
            # It resumed us, and nothing was watched yet.
            self._watch()

    def _uncork(self) -> None:
        self.corked = False
        if self._chunks and not self._writing:
            self._flush(self.disconnecting and self.producer is None)
        if self._attention and not self._chunks:
            self._emptied()
        if not self._watching and not self._paused:
            self._watch()

    def cork_until_next_turn(self) -> None:
        """
        Collect what is written from now on, in this turn of the loop, unless it waits anyway.
        """
        if not self.corked and not self._writing:
            self.corked = True
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._readiness.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = self._dry = False
        if not self.connected:
            return
        if self._unread and not self._paused:
            self._call(lambda: self._feed(self._take_unread()))
        else:
            self._uncork()

    # The end, in every way that it can come.

    def _close(self) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._paused = self._ended or not self.lingering
            self._await_empty()

    def _shut_output(self) -> bool:
        """
        Send the FIN but go on reading.

        :return: :obj:`False` if the client has reset the connection; reading tells.
        """
        self._attention = False
        self._mute = True
        try:
            self.socket.shutdown(SHUT_WR)
        except OSError:
            return False
        return True

    def _crash(self, error: Exception) -> None:
        failure = failure_of(error)
        self._log.failure(
            "A protocol failed; its connection is closed.", failure, event="protocol.failed"
        )
        self._doom(failure)

    def _doom(self, reason: Failure) -> None:
        """
        End the connection in the next turn: never inside a call of the protocol.
        """
        if self._doomed or not self.connected:
            return
        self._doomed = self._mute = self._paused = self.disconnecting = True
        self._attention = self._dry = False
        self._stop_watching()
        self._discard_output()
        self._readiness.call_soon(self._end, reason)

    def _abort(self) -> None:
        self._doom(failure_of(ConnectionAborted()))

    def _retire(self) -> None:
        self.connected = self._attention = False
        self.disconnected = self._mute = self._paused = True

    def _end(self, reason: Failure) -> None:
        """
        End the connection now.  Only the loop and the ends of calls come here.
        """
        if not self.connected:
            return
        # Strictly before close: epoll goes on reporting a closed descriptor as long
        # as another copy of the socket exists, and then nobody can remove it.
        if self._watching:
            self._stop_watching()
        if self._chunks or self._writing:
            self._discard_output()
        self._retire()
        remains = False
        if reason is not connectionDone and isinstance(reason.value, ConnectionAborted):
            reset(self.socket)
        else:
            remains = hang_up(self.socket, self._dry, self.lingering)
        try:
            self._lost(reason)
        except Exception:  # noqa: BLE001 - there is nothing left for it to end
            self._log.failure(
                "A protocol failed at the end of its connection.", event="protocol.failed"
            )
        # Protocol and transport refer to each other; as long as they do, only the
        # garbage collector frees them.
        self.protocol = None
        # Closed after the protocol was told, as asyncio does, for it may still ask for
        # our address; the FIN has left already.
        if remains:
            LingeringClose(self._readiness, self.socket).start()
        else:
            os.close(self.socket.detach())  # its close() looks for files made of it

    # What can be asked.

    def ends(self) -> tuple[Any, Any]:
        """
        Our address and the client's, as sockets name them.
        """
        ours = self.socket.getsockname() if self._host is None else name_of(self._host)
        return ours, name_of(self._peer)

    def _address(self) -> Any:
        """
        Find our own address, unless it was given: most connections never need it.

        :raise OSError: if it was never asked for before the socket was closed.
        """
        if self._host is None:
            self._host = address_of(self.socket)
        return self._host
