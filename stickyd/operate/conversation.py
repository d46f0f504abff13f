"""
The connection of one operator: questions in, steps and answers out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from typing_extensions import override
from zope.interface import implementer

from stickyd.errors import OperatorError
from stickyd.operate.wire import ALIVE_SECONDS, LONGEST_QUESTION_BYTES, decode_question, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from stickyd.operate.command import IAsker

    Run = Callable[[object, object, IAsker], Deferred[dict[str, Any]]]

#: Seconds that a connection may last on which nothing is asked, or whose client does not read
#: what it is told.
SILENT_SECONDS = 30.0


@implementer(IPushProducer)
class Conversation(Protocol):
    """
    Answers one question after the other.

    What is asked meanwhile waits in the socket: nothing is read while a question is worked on
    or the client does not read.  Steps and events that find no room are left out, and the
    client is told how many events were.

    :ivar is_open: whether the client may still hear something; see
        :class:`stickyd.operate.command.IAsker`.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        run: Run,
        objection: str,
        ended: Callable[[Conversation], object],
        broke: Callable[[str], object],
    ) -> None:
        """
        :param objection: why nothing is answered; empty if it is.
        :param ended: told when it has closed.
        :param broke: told what was said that is not of the protocol.
        """
        self._clock = clock
        self._run = run
        self._objection = objection
        self._ended = ended
        self._broke = broke
        self._read = b""
        self._busy = False
        self._full = False
        self._ending = False
        self._missed = 0
        self._when_closed: list[Callable[[], object]] = []
        self._deadline: IDelayedCall | None = None
        self._alive: IDelayedCall | None = None
        self.is_open = False

    @override
    def connectionMade(self) -> None:
        self.is_open = True
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self._watch_silence()

    def _watch_silence(self) -> None:
        """
        Allow so much silence from now on, if it is the client's turn.
        """
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if (self.is_open or self._ending) and (self._full or not self._busy):
            self._deadline = self._clock.callLater(SILENT_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._deadline = None
        transport: Any = self.transport
        transport.abortConnection()

    # questions

    @override
    def dataReceived(self, data: bytes) -> None:
        self._read += data
        self._next()

    def _next(self) -> None:
        """
        Answer what is asked, if it is there.
        """
        if self._busy or self._full or not self.is_open:
            return
        line, found, rest = self._read.partition(b"\n")
        if line and line[:1] != b"{":
            self._breach(f"no JSON object: {line[:60].decode('latin-1')!a}")
        elif len(line) > LONGEST_QUESTION_BYTES:
            self._breach(f"more than {LONGEST_QUESTION_BYTES} bytes without an end of line")
        elif found:
            self._read = rest
            self._answer(line)

    def _answer(self, line: bytes) -> None:
        try:
            name, given = decode_question(line)
        except ValueError as problem:
            self._breach(str(problem))
            return
        except OperatorError as problem:
            self._refuse(str(problem))
            return
        if self._objection:
            self._refuse(self._objection)
            return
        self._busy = True
        self._pause()
        self._watch_silence()
        self._alive = self._clock.callLater(ALIVE_SECONDS, self._say_alive)
        answered = self._run(name, given, self)
        answered.addCallbacks(self._done, self._failed).addErrback(self._broken)

    def _say_alive(self) -> None:
        self._alive = self._clock.callLater(ALIVE_SECONDS, self._say_alive)
        if not self._full:
            self._say({"alive": True})

    def _done(self, answer: dict[str, Any]) -> None:
        self._end({"answer": answer})

    def _failed(self, failure: Failure) -> None:
        if failure.check(OperatorError) is None:
            self._log.failure(
                "A command of an operator failed", failure, event="control.command-failed"
            )
            self._end({"error": "the server has an error; its log says which"})
        else:
            self._end({"error": failure.getErrorMessage()})

    def _broken(self, failure: Failure) -> None:
        self._log.failure(
            "An operator could not be answered", failure, event="control.command-failed"
        )
        self._end({"error": "the server has an error; its log says which"})

    def _end(self, message: dict[str, Any]) -> None:
        if self._alive is not None:
            self._alive.cancel()
            self._alive = None
        self._when_closed.clear()
        self._say(message)
        self._busy = False
        self._missed = 0
        if self.is_open:
            self._watch_silence()
            # Not in this turn: a flood of questions must leave room for others.
            self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        if self.is_open and not self._busy and not self._full:
            transport: Any = self.transport
            transport.resumeProducing()
            self._next()

    def _pause(self) -> None:
        transport: Any = self.transport
        transport.pauseProducing()

    def _breach(self, problem: str) -> None:
        self._broke(problem)
        self._refuse(f"this is no question of stickyctl, but {problem}")

    def _refuse(self, problem: str) -> None:
        """
        Say why there is no answer, and hear nothing any more.
        """
        self._say({"error": problem})
        self._read = b""
        self.close()

    # IAsker

    def step(self, text: str, **told: object) -> None:
        if not self._full:
            self._say({"step": {"text": text, **told}})

    def event(self, event: Mapping[str, object]) -> None:
        if self._full:
            self._missed += 1
            return
        if self._missed:
            missed, self._missed = self._missed, 0
            self._say({"event": {"event": "events.missed", "text": f"{missed} events were missed"}})
        self._say({"event": event})

    def call_when_closed(self, call: Callable[[], object]) -> None:
        self._when_closed.append(call)

    def _say(self, message: dict[str, Any]) -> None:
        if self.is_open:
            transport: Any = self.transport
            transport.write(encode(message))

    # IPushProducer: of what the client is told

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._full = True
        self._pause()
        self._watch_silence()

    def resumeProducing(self) -> None:  # noqa: N802
        self._full = False
        self._watch_silence()
        self._go_on()

    def stopProducing(self) -> None:  # noqa: N802
        """
        Nothing that is said gets there any more.
        """
        self.is_open = False

    # the end

    def close(self) -> None:
        """
        End the connection, once what was said is sent, or the client has not read it for long.
        """
        self.is_open, self._ending = False, True
        self._watch_silence()
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_open = self._ending = False
        self._watch_silence()
        if self._alive is not None:
            self._alive.cancel()
            self._alive = None
        calls, self._when_closed = self._when_closed, []
        for call in calls:
            call()
        self._ended(self)
