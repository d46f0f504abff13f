"""
HAProxy's ``agent-check``: one line for each connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

#: How many may be connected at a time; the oldest makes room.
MOST_AGENTS = 32

#: Seconds that one may take to read a line.
AGENT_SECONDS = 5.0


class Agent(Protocol):
    """
    Says how the server is, and hangs up.
    """

    def __init__(
        self,
        line: Callable[[], str],
        clock: IReactorTime,
        ended: Callable[[Agent], object],
    ) -> None:
        self._line = line
        self._clock = clock
        self._ended = ended
        self._overdue: IDelayedCall | None = None

    @override
    def connectionMade(self) -> None:
        transport = self.transport
        assert transport is not None
        self._overdue = self._clock.callLater(AGENT_SECONDS, self.cut)
        transport.write(self._line().encode("ascii", "replace") + b"\n")
        transport.loseConnection()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._overdue is not None and self._overdue.active():
            self._overdue.cancel()
        self._ended(self)

    def cut(self) -> None:
        """
        Wait no longer for whoever does not read.
        """
        transport: Any = self.transport
        transport.abortConnection()


class AgentFactory(Factory):
    """
    Makes them, a few at a time.
    """

    noisy = False

    def __init__(self, line: Callable[[], str], clock: IReactorTime) -> None:
        """
        :param line: gives what is said.
        """
        self._line = line
        self._clock = clock
        self._agents: dict[Agent, None] = {}

    @override
    def buildProtocol(self, addr: IAddress | None) -> Agent:
        if len(self._agents) >= MOST_AGENTS:
            oldest = next(iter(self._agents))
            # Not when it has ended, which is later: the next one would cut it off again.
            self._forget(oldest)
            oldest.cut()
        agent = Agent(self._line, self._clock, self._forget)
        self._agents[agent] = None
        return agent

    def _forget(self, agent: Agent) -> None:
        self._agents.pop(agent, None)
