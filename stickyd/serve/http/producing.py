"""
The channel between two producers: the application's, which writes a response, and the
transport, which brings the requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stickyd.serve.http.answering import Answering
from stickyd.serve.http.outgoing import BUSY

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

_PULLS = 16
"""How often a pull producer is asked in one turn of the loop; most give 64 KiB each."""


class Producing(Answering):
    """
    Passes the pressure of a slow client back to the application, and on to the reading.
    """

    _producer: Any = None  # the application's
    _pulls = False  # that is a pull producer
    _next_pull: IDelayedCall | None = None
    _serving = False  # the channel is at work, and will pull

    # IConsumer, for the application's producer.

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802 - Twisted's name
        """
        Let a producer write the response at the pace of the client.

        A push producer is paused and resumed; a pull producer is asked for more, as soon
        as the caller has returned, until the transport says that it is full.

        :raise RuntimeError: if there is one already.
        """
        if self._producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self._producer} "
                "was never unregistered."
            )
        self._producer = producer
        self._pulls = not streaming
        if not streaming:
            if not self._serving:
                self._next_pull = self.shared.clock.callLater(0, self._pull_on)
        elif self._waiting:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:  # noqa: N802 - Twisted's name
        """
        Forget the application's producer, if there is one.
        """
        self._producer = None
        self._pulls = False
        if self._next_pull is not None:
            self._next_pull.cancel()
            self._next_pull = None

    def _pull(self) -> None:
        producer = self._producer
        for _ in range(_PULLS):
            if self._waiting:
                return
            try:
                producer.resumeProducing()
            except Exception:  # noqa: BLE001 - whatever an application raises ends its response only
                self._log.failure("A producer failed: {producer}", producer=producer)
                self.unregisterProducer()
                self.abortConnection()
                return
            if self._producer is not producer:
                return
        # A client that reads as fast as we write must not keep the others waiting.
        self._next_pull = self.shared.clock.callLater(0, self._pull_on)

    def _pull_on(self) -> None:
        self._next_pull = None
        if self._pulls:
            self._pull()

    # IPushProducer, for our transport.

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Called by the transport when it holds too much: stop the application's producer,
        and read no more requests, whose responses would have nowhere to go.
        """
        self._waiting = True
        if self._producer is not None and not self._pulls:
            self._producer.pauseProducing()
        if self._state != BUSY:
            self._read_no_more()
        self._expect(self.shared.limits.stall)

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Called by the transport when it has room again.
        """
        self._waiting = False
        if self._pulls:
            if self._next_pull is None:
                self._pull()
        elif self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """
        Called by the transport when the connection is lost.
        """
        if self._producer is not None:
            self._producer.stopProducing()
