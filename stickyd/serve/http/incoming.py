"""
The order of requests: one after the other, and what waits meanwhile.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from stickyd.serve.http.half_close import HalfClosed
from stickyd.serve.http.head import RequestError
from stickyd.serve.http.outgoing import BODY, BUSY, CLOSING, GONE, HEAD, LEAVING, PASSING
from stickyd.serve.http.reading import Reading

if TYPE_CHECKING:
    from stickyd.serve.http.context import Take


class Incoming(Reading):
    """
    Has requests answered one by one.
    """

    _leave: Take | None = None  # gets the connection as soon as it is between two requests
    _successor: Any = None
    _input_over = False  # the client has shut its side
    _resting = False  # nobody looks whether the client says something
    _half_closed: HalfClosed | None = None
    _began = b""  # of a response, to see whether the client is still there

    def _advance(self, data: bytes) -> None:
        """
        Go on with new input, until it is used up or a request is not answered at once.
        """
        self._corked = self._serving = True
        try:
            self._serve(data)
        except RequestError as error:
            self._refuse(error)
        finally:
            self._serving = False
            if self._corked:
                self._uncork()
        if not self._reading and not self._waiting:
            # The transport took a breath while we were at work.
            self._go_on_reading()
        state = self._state
        if state == HEAD:
            if self._waiting:
                self._read_no_more()
            elif self._partial is None:
                idle = self.shared.limits.idle
                self.deadline = inf if idle is None else self.shared.sweep.now + idle
        elif state == BODY:
            if not self._body_held:
                self._expect(self.shared.limits.body)
        elif state == PASSING:
            self._pass_on()
        elif state == LEAVING:
            self._try_leave()
        if self._leave is not None:
            self._leave_if_idle()

    def _serve(self, data: bytes) -> None:
        position = 0
        size = len(data)
        while True:
            if self._state == HEAD:
                position = self._read_head(data, position)
                if position < 0:
                    return
            if self._state == BODY:
                position = self._read_body(data, position)
                if position < 0:
                    return
            self._state = BUSY
            self._request.requestReceived(*self._message)
            if self._pulls:
                self._pull()
            if self._state != HEAD:
                if position < size:
                    self._keep(data[position:])
                return
            if not self.persistent:
                self._end(data[position:])
                return
            if position == size:
                return
            if self._waiting:
                # Our answers have nowhere to go for now, so no more of them.
                self._keep(data[position:])
                self._read_no_more()
                return

    def _complete(self, data: bytes) -> None:
        """
        Add to a head that was not whole.
        """
        try:
            whole = self._extend(data)
        except RequestError as error:
            self._refuse(error)
            return
        if whole:
            self._advance(whole)

    # What waits.

    def _keep(self, data: bytes) -> None:
        """
        Keep input for later, but not without bound.
        """
        self._kept += data
        if len(self._kept) > self.shared.limits.read_ahead_bytes:
            self._read_no_more()

    def _go_on(self) -> None:
        """
        Go on with what was kept, now that there is room for the answers.
        """
        kept, self._kept = self._kept, b""
        self._expect(self.shared.limits.idle)
        if kept:
            self._advance(kept)
        if self._input_over:
            self.readConnectionLost()
        elif not self._waiting:
            self._go_on_reading()

    def _go_on_reading(self) -> None:
        if self._resting or (self._state == BODY and self._body_held):
            return
        if self._state < CLOSING and len(self._kept) <= self.shared.limits.read_ahead_bytes:
            self._read_on()

    def rest(self) -> bool:
        """
        Do not watch the client for a moment; called by a request whose answer is on its way.
        Many connections are over with it, and to watch one costs more than to read it.

        :return: :obj:`False` if it is watched already.
        """
        if getattr(self._transport, "watched", True):
            return False
        self._resting = True
        self._read_no_more()
        return True

    def watch(self) -> None:
        """
        Watch the client again, who may leave.
        """
        if self._resting:
            self._resting = False
            if not self._waiting:
                self._go_on_reading()

    # Ends.

    def readConnectionLost(self) -> None:  # noqa: N802 - Twisted's name
        """
        Called when the client will send no more: what it has asked for whole is answered
        (RFC 9112, 9.6), then the connection is closed.
        """
        self._input_over = True
        state, request = self._state, self._request
        if state in (LEAVING, GONE) or (state == HEAD and self._kept):
            return
        if state == BUSY:
            if request is not None:  # else it is answered, and waits for the primary
                self._probe(request)
            return
        if state == CLOSING:
            # Only the client's end was waited for.
            self._transport.loseConnection()
            return
        if state == BODY and request is not None:
            # It will never be whole.
            self._request = None
            request.connectionLost(Failure(ConnectionLost("The body is not whole.")))
        self.loseConnection()

    def _probe(self, request: Any) -> None:
        """
        Find out whether the client is still there: send what comes next in any case.
        """
        if self._half_closed is None:
            if not request.startedWriting:
                self._began = self._message[2] + b" "
                self.write(self._began)
                self.write = self._write_rest  # type: ignore[method-assign]
            elif request.chunked and self._unsent() == 0:
                self.write(b"0")  # the size of the next chunk may begin so
            self._half_closed = HalfClosed(
                self.shared.clock.callLater, self._transport, self.abortConnection
            )

    def _write_rest(self, data: bytes) -> None:
        """
        Write a response whose first bytes were sent already.
        """
        del self.write
        self.write(data[len(self._began) :])

    def writeConnectionLost(self) -> None:  # noqa: N802 - Twisted's name
        """
        Called when our side was shut.
        """

    def _end(self, unread: bytes) -> None:
        """
        Close after the last response.
        """
        if unread:
            self._linger()
        else:
            self.loseConnection()

    def _refuse(self, error: RequestError) -> None:
        """
        Answer a request that is not good enough to be one, and close.
        """
        self.persistent = False
        self._partial = None
        request = self._request
        if getattr(request, "startedWriting", False):
            # Half a response is out: what follows would be taken for more of it.
            self.abortConnection()
            return
        self.write(self.shared.refusal(error.status))
        self._linger()
        request, self._request = self._request, None
        if request is not None:
            request.connectionLost(Failure(error))

    def _pass_on(self) -> None:
        """
        Give the protocol of an upgrade what came with the request.
        """
        kept, self._kept = self._kept, b""
        self._read_on()
        if kept:
            self._successor.dataReceived(kept)

    def _try_leave(self) -> None:
        raise NotImplementedError

    def _leave_if_idle(self) -> None:
        raise NotImplementedError
