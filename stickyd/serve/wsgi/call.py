"""
One call of an application, in its thread.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyd.serve.wsgi.body import BodyLost
from stickyd.serve.wsgi.file_wrapper import LEAST_BYTES, FileWrapper
from stickyd.serve.wsgi.response import failure_head, read_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stickyd.serve.wsgi.response import ResponseHead
    from stickyd.serve.wsgi.threads import Seat

    WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: What a piece of a response is: more follows, nothing follows, or what should follow never
#: will.
MORE, LAST, BROKEN = range(3)


#: What leaves in one piece.  Of a longer one the client takes the most while the thread waits,
#: so that there are no more of them in the memory than there are threads.
PIECE_BYTES = 262144


class ClientGone(ConnectionResetError):
    """
    The client has left, so nobody takes what the application writes.
    """


class Receiver(Protocol):
    """
    What takes a response, from the application's thread.

    :ivar gone: whether the client has left before it was whole.
    :ivar lent: whether the application has the connection itself.
    """

    gone: bool
    lent: bool

    @property
    def takes_files(self) -> bool:
        """
        Whether :meth:`put_file` may be called.
        """

    @property
    def read_at(self) -> float:
        """
        When the application last got some of a body that was coming, by the monotonic clock;
        :data:`math.inf` if it waits for more just now.
        """

    @property
    def streams_events(self) -> bool:
        """
        Whether the response has begun and is an event stream.
        """

    def put(self, head: ResponseHead | None, piece: bytes, kind: int) -> None:
        """
        Take a piece.

        :param head: with the first one.
        :param kind: :data:`MORE`, :data:`LAST` or :data:`BROKEN`.
        """

    def put_whole(self, head: ResponseHead, body: bytes) -> None:
        """
        Take a whole response.
        """

    def put_file(self, head: ResponseHead, descriptor: int, offset: int, count: int) -> None:
        """
        Take a whole response whose body is a part of a file.

        :param descriptor: closed by whoever takes it.
        """

    def wait_for_room(self) -> None:
        """
        Wait until the client has taken enough of what was put, or has left.
        """

    def ended(self) -> None:
        """
        Learn that the application has returned, and was closed.
        """


class ApplicationCall:
    """
    Calls the application and passes its response on, piece by piece.

    :ivar environ: what it is called with.
    :ivar seat: the thread, once it is.
    :ivar answered: the response has begun.
    """

    _log = Logger()

    answered = False
    seat: Seat | None = None
    _head: ResponseHead | None = None
    _left: int | None = None  # of the length that the application gave
    _complete = False
    _too_long = False

    def __init__(
        self, application: WsgiApplication, environ: dict[str, Any], receiver: Receiver
    ) -> None:
        self._application = application
        self._receiver = receiver
        self.environ = environ

    def run(self, seat: Seat) -> None:
        """
        Call it, unless its client has left meanwhile.
        """
        receiver = self._receiver
        self.seat = seat
        try:
            if not receiver.gone:
                self._call()
        finally:
            receiver.ended()

    def _call(self) -> None:
        result: Any = None
        try:
            result = self._application(self.environ, self.start_response)
            self._send(result)
        except ClientGone:
            pass
        except BaseException as problem:  # noqa: BLE001 - whatever it raises ends its response only
            self._fail(problem)
        try:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        except BaseException as problem:  # noqa: BLE001 - the same
            self._fail(problem)

    def _fail(self, problem: BaseException) -> None:
        receiver = self._receiver
        if receiver.lent and isinstance(problem, (ConnectionError, StopIteration)):
            return  # what simple-websocket's users say to servers that know no better
        if not (receiver.gone and isinstance(problem, BodyLost)):
            self._log.failure(
                "The application failed: {method} {path}",
                event="application.failed",
                failure=Failure(problem),
                method=self.environ.get("REQUEST_METHOD"),
                path=self.environ.get("PATH_INFO"),
            )
        if self._complete:
            return
        self._complete = True
        if self.answered:
            self._receiver.put(None, b"", BROKEN)
        else:
            self.answered = True
            self._receiver.put_whole(*failure_head(500))

    # For those who look at the threads.

    @property
    def request_line(self) -> str:
        """
        Method and path, as they came.
        """
        path = self.environ["RAW_URI"].partition("?")[0]
        return f"{self.environ['REQUEST_METHOD']} {path}".encode("ascii", "replace").decode()

    @property
    def read_at(self) -> float:
        """
        When the application last got some of its input, as :class:`Receiver` says.
        """
        return self._receiver.read_at

    @property
    def abandoned(self) -> bool:
        """
        Whether its client has left.
        """
        return self._receiver.gone

    @property
    def forsaken(self) -> bool:
        """
        Whether it is an event stream whose client has left: that may wait for ever, for
        something to send.
        """
        return self._receiver.gone and self._receiver.streams_events

    # What the application calls.

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """
        Say what the response is, as PEP 3333 has it.
        """
        if exc_info is not None:
            try:
                if self.answered:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # a cycle through the traceback
        elif self._head is not None:
            raise AssertionError("start_response() was called already, and this without exc_info")
        self._head = read_head(status, headers)
        return self.write

    def write(self, data: bytes) -> None:
        """
        Write a piece of the body at once.

        :raises ClientGone: if nobody takes it.
        """
        self._put(data)
        if self._complete:
            return
        self._receiver.wait_for_room()
        if self._receiver.gone:
            raise ClientGone("the client has left")

    # The body.

    def _send(self, result: Any) -> None:
        if self._head is not None and not self.answered and isinstance(result, (list, tuple)):
            body = result[0] if len(result) == 1 else b"".join(result)
            self._send_whole(self._head, body)
            return
        receiver = self._receiver
        if (
            isinstance(result, FileWrapper)
            and self._head is not None
            and not self.answered
            and receiver.takes_files
            and self._send_file(self._head, result)
        ):
            return
        for piece in result:
            if piece:
                self._put(piece)
                if not self._complete:
                    receiver.wait_for_room()
                elif self._left is None:
                    break  # nobody wants a body
            elif not isinstance(piece, bytes):
                self._put(piece)  # which says what is wrong
            if receiver.gone and not self._complete:
                return
        self._finish()

    def _send_whole(self, head: ResponseHead, body: bytes) -> None:
        """
        Answer in one go.
        """
        if type(body) is not bytes or head.length not in (None, len(body)):
            if body or not isinstance(body, bytes):
                self._put(body)
            self._finish()
            return
        if len(body) > PIECE_BYTES and not self._is_silent(head):
            if head.length is None:
                head.declare_length(len(body))
            self._put(body)
            return
        self.answered = self._complete = True
        self._receiver.put_whole(head, body)

    def _is_silent(self, head: ResponseHead) -> bool:
        return head.bodiless or self.environ["REQUEST_METHOD"] == "HEAD"

    def _send_file(self, head: ResponseHead, wrapper: FileWrapper) -> bool:
        """
        Answer with a file, which the thread need not wait for.

        :return: :obj:`False` if it must be read after all.
        """
        if self._is_silent(head):
            return False
        opened = wrapper.open_plain()
        if opened is None:
            return False
        descriptor, offset, count = opened
        if head.length is not None:
            if head.length > count:
                os.close(descriptor)
                return False
            count = head.length
        if count <= LEAST_BYTES:
            piece = os.pread(descriptor, count, offset)
            os.close(descriptor)
            self._send_whole(head, piece)
            return True
        self.answered = self._complete = True
        self._receiver.put_file(head, descriptor, offset, count)
        return True

    def _put(self, piece: bytes) -> None:
        if not isinstance(piece, bytes):
            raise TypeError(f"the body must be bytes, not {type(piece).__name__}")
        if self._complete:
            self._note_excess(piece)
            return
        if not piece:
            return
        if len(piece) > PIECE_BYTES:
            self._put_large(piece)
            return
        head = None
        if not self.answered:
            head = self._head
            if head is None:
                raise AssertionError("the body came before start_response() was called")
            self._left = head.length
            self.answered = True
            if self._is_silent(head):
                self._left = None
                self._complete = True
                self._receiver.put(head, b"", LAST)
                return
        kind = MORE
        if self._left is not None:
            if len(piece) >= self._left:
                self._complete = True
                kind = LAST
                self._note_excess(piece[self._left :])
                piece = piece[: self._left]
            self._left -= len(piece)
        self._receiver.put(head, piece, kind)

    def _put_large(self, piece: bytes) -> None:
        receiver = self._receiver
        for start in range(0, len(piece), PIECE_BYTES):
            self._put(piece[start : start + PIECE_BYTES])
            if not self._complete:
                receiver.wait_for_room()
                if receiver.gone:
                    return

    def _note_excess(self, excess: bytes) -> None:
        if excess and self._left is not None and not self._too_long:
            self._too_long = True
            self._log.error(
                "{method} {path}: the response is longer than its Content-Length; what is too"
                " much is not sent",
                event="response.too-long",
                method=self.environ["REQUEST_METHOD"],
                path=self.environ["PATH_INFO"],
            )

    def _finish(self) -> None:
        """
        Complete the response: the application has said all.
        """
        if self._complete or self._receiver.gone:
            return
        head = None
        if not self.answered:
            head = self._head
            if head is None:
                raise AssertionError("start_response() was not called")
            self._left = None if self._is_silent(head) else head.length
            self.answered = True
        self._complete = True
        if not self._left:
            self._receiver.put(head, b"", LAST)
            return
        self._log.error(
            "{method} {path}: the response is shorter than its Content-Length, by {left} bytes;"
            " the connection is closed",
            event="response.too-short",
            method=self.environ["REQUEST_METHOD"],
            path=self.environ["PATH_INFO"],
            left=self._left,
        )
        self._receiver.put(head, b"", BROKEN)
