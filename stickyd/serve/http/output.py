"""
What requests write, on its way to the transport.

What is written while the connection serves input is collected ("corked") and leaves as one
write when that is done: a short response is one system call, and so are several pipelined
ones.  A response may also be held until the primary has been told of it.

The pressure of a slow client goes back to the application's producer: the transport says
that it is full, or we do in its place while we hold.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Collected bytes that are written at once, so that a full transport is noticed.
FLUSH_BYTES = 65536

#: How often a pull producer is asked in one turn of the loop; most give 64 KiB each.
PULLS_PER_TURN = 16


class Output:
    """
    The writing side of one connection.

    :ivar transport: where it all goes; set before anything is written.
    :ivar corked: what is written is collected.
    :ivar held: it stays so for now; see :meth:`hold_until`.
    :ivar prompt: nobody here need turn off Nagle's algorithm: it is off, or the transport sees to
        that.
    :ivar serving: the connection takes requests from its reader, and sees to pull producers
        and to the cork when it has.
    :ivar full: there is no room for more for now: the transport is full, or the output held.
    :ivar producer: the application's, or :obj:`None`.
    :ivar pulls: whether that is a pull producer.
    """

    _log = Logger()

    # What every request asks for is the instance's own from the start; see
    # :class:`stickyd.net.stream.Stream`.
    transport: Any = None
    corked = False
    prompt = False
    producer: Any = None

    _pending: list[bytes] | None = None
    _wrote = False
    _pending_bytes = 0
    _unsent_bytes: float = inf  # at the last look
    _room_below = False  # it is full as it is held, not as the transport is

    _collects = False  # the transport does, while it calls us

    def __init__(self, clock: IReactorTime) -> None:
        """
        :param clock: for the next turn of the loop.
        """
        self._clock = clock
        self.held = False
        self.serving = False
        self.full = False
        self.pulls = False
        self._next_pull: IDelayedCall | None = None
        self._begun_bytes = 0  # of the next write, which are written already

    def connect(self, transport: Any) -> None:
        """
        Write to a transport from now on.
        """
        self.transport = transport
        self.prompt = self._collects = hasattr(transport, "corked")

    # Writing.

    def serve(self) -> None:
        """
        Begin to take requests from the reader; end it with ``serving`` and :meth:`uncork`.
        """
        self.serving = True
        # What our own stream collects need not be collected here too.
        self.corked = self.held or not (self._collects and self.transport.corked)

    def write(self, data: bytes) -> None:
        """
        Write to the client, or collect it.

        :raise TypeError: if it is not bytes.
        """
        if data.__class__ is not bytes:
            data = bytes(memoryview(data))
        if self._begun_bytes:
            data = data[self._begun_bytes :]
            self._begun_bytes = 0
        if self.corked:
            if self._pending is None:
                self._pending = [data]
            else:
                self._pending.append(data)
            self._pending_bytes += len(data)
            if self._pending_bytes > FLUSH_BYTES and not self.held:
                self.flush()
            return
        if not self.prompt:
            self._look_prompt()
        self.transport.write(data)

    def begin_next(self, request: Any, version: bytes) -> None:
        """
        Write the first bytes of what the client gets next in any case: of the response's head,
        or of its next chunk.

        :param request: what is being answered.
        :param version: of HTTP, in which its head will be written.
        """
        if not request.startedWriting:
            begun = version + b" "
            self.write(begun)
            self._begun_bytes = len(begun)
        elif request.chunked and self.unsent_bytes == 0:
            self.write(b"0")  # the size of a chunk may begin so

    def flush(self) -> None:
        """
        Write what was collected.
        """
        pending = self._pending
        if pending is None:
            return
        size = self._pending_bytes
        self._pending = None
        self._pending_bytes = 0
        if not self.prompt:
            self._look_prompt()
        if len(pending) == 1:
            self.transport.write(pending[0])
        elif size <= FLUSH_BYTES:
            self.transport.write(b"".join(pending))
        else:
            self.transport.writeSequence(pending)

    def uncork(self) -> None:
        """
        Write what was collected, and collect no more, unless it is held.
        """
        if not self.held:
            self.corked = False
            self.flush()

    def _look_prompt(self) -> None:
        # Nagle's algorithm holds back a second small write until the first is
        # acknowledged; most connections never get there, and save the system call.
        if not self._wrote:
            self._wrote = True
            return
        self.prompt = True
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)

    def hold_until(self, told: Deferred[None], released: Callable[[], object]) -> None:
        """
        Collect whatever is written from now on.  What was written before need not wait.

        :param told: fires when it may leave.
        :param released: called then.
        """
        self.flush()
        self.held = self.corked = True
        if not self.full:
            # As if the transport were, so that producers wait too.
            self.full = self._room_below = True
            if self.producer is not None and not self.pulls:
                self.producer.pauseProducing()
        told.addBoth(self._release, released)

    def _release(self, _: object, released: Callable[[], object]) -> None:
        if not self.held:
            return  # The connection is over.
        self.held = False
        room, self._room_below = self._room_below, False
        if room:
            self.full = False
        if not self.serving:
            self.uncork()
        if room and not self.full and self.producer is not None:
            self.resume()
        released()

    def discard(self) -> None:
        """
        Drop what was collected, and the producer, which refers to the connection: that is
        over.
        """
        self._pending = None
        self.held = False
        if self.producer is not None:
            self.unregister()

    # Closing the transport.

    def abort(self) -> None:
        """
        End the connection now.
        """
        abort = getattr(self.transport, "abortConnection", None)
        if abort is None:
            self.transport.loseConnection()
        else:
            abort()

    @property
    def tells_unsent(self) -> bool:
        """
        Whether the transport tells what it has not sent yet.
        """
        return hasattr(self.transport, "get_write_buffer_size")

    @property
    def unsent_bytes(self) -> int:
        """
        How many bytes the transport has not sent yet; 0 if it does not tell.
        """
        size = getattr(self.transport, "get_write_buffer_size", None)
        return 0 if size is None else size()

    def is_taken(self) -> bool:
        """
        Tell whether the client has taken some of what is written since the last look.
        """
        unsent, before = self.unsent_bytes, self._unsent_bytes
        self._unsent_bytes = unsent
        return 0 < unsent < before

    # The application's producer.

    def register(self, producer: Any, streaming: bool) -> None:
        """
        Let a producer write the response at the pace of the client.

        A push producer is paused and resumed; a pull producer is asked for more, as soon as
        the caller has returned, until the transport says that it is full.

        :raise RuntimeError: if there is one already.
        """
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self.producer} "
                "was never unregistered."
            )
        self.producer = producer
        self.pulls = not streaming
        if not streaming:
            if not self.serving:
                self._next_pull = self._clock.callLater(0, self._pull_on)
        elif self.full:
            producer.pauseProducing()

    def unregister(self) -> None:
        """
        Forget the application's producer, if there is one.
        """
        self.producer = None
        self.pulls = False
        self._cancel_pull()

    def end_stream(self, chunked: bool) -> Any:
        """
        End a response that would go on.

        :param chunked: whether it is sent in chunks.
        :return: its producer, which is not told, or :obj:`None`.
        """
        producer = self.producer
        self.unregister()
        if chunked:
            self.write(b"0\r\n\r\n")
        return producer

    def _cancel_pull(self) -> None:
        if self._next_pull is not None:
            self._next_pull.cancel()
            self._next_pull = None

    def pull(self) -> None:
        """
        Ask a pull producer for as much as there is room for.
        """
        producer = self.producer
        for _ in range(PULLS_PER_TURN):
            if self.full:
                return
            try:
                producer.resumeProducing()
            except Exception:  # noqa: BLE001 - whatever an application raises ends its response only
                self._log.failure(
                    "A producer failed: {producer}",
                    event="application.producer-failed",
                    producer=producer,
                )
                self.unregister()
                self.abort()
                return
            if self.producer is not producer:
                return
        # A client that reads as fast as we write must not keep the others waiting.
        self._next_pull = self._clock.callLater(0, self._pull_on)

    def _pull_on(self) -> None:
        self._next_pull = None
        if self.pulls:
            self.pull()

    # The transport's pressure.

    def pause(self) -> None:
        """
        Hear that the transport holds too much.
        """
        if self.held:
            self._room_below = False
            return
        self.full = True
        if self.producer is not None and not self.pulls:
            self.producer.pauseProducing()

    def resume(self) -> None:
        """
        Hear that the transport has room again.
        """
        if self.held:
            self._room_below = True
            return
        self.full = False
        if self.pulls:
            if self._next_pull is None:
                self.pull()
        elif self.producer is not None:
            self.producer.resumeProducing()

    def stop(self) -> None:
        """
        Hear that the connection is lost.
        """
        if self.producer is not None:
            self.producer.stopProducing()
