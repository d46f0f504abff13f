"""
Fault 10, in any order of events: a worker is relieved while requests are under way.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource

from stickyd.sessions.registry import SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.sessions.web.site import SessionSite
from stickyd.worker.session_moves import SessionMoves
from tests.sessions.web.web import COOKIE, Response, count, parse

CLIENTS = 3


class Counted(Resource):
    """
    Counts when the whole request is here.
    """

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:  # noqa: N802 - Twisted's name
        """
        Called when the body is here.
        """
        return count(request)


class Worker:
    """
    One worker's sessions, and the requests that it has.
    """

    def __init__(self, clock: Clock, send: Any) -> None:
        self.registry = SessionRegistry(MemorySessionStore(clock), clock)
        self.site = SessionSite(Counted(), reactor=clock, sessions=self.registry)
        self.requests: list[Request] = []
        self.registry.call_before_export(self._hold)
        self.moves = SessionMoves(self.registry, send, lambda key, client, touched: 0)

    def _hold(self) -> None:
        for request in self.requests:
            for each in request.channel._channel.requests:
                if not each.startedWriting:
                    each.hold_sessions()


class Request:
    """
    A request whose body is still to come.
    """

    def __init__(self, worker: Worker, client: int, uid: bytes) -> None:
        self.client = client
        self.worker = worker
        self.whole = False
        self.transport = StringTransport()
        self.channel: Any = worker.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)
        worker.requests.append(self)
        self.channel.dataReceived(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\nCookie: "
            + COOKIE
            + b"="
            + uid
            + b"\r\n\r\n"
        )

    @property
    def response(self) -> Response | None:
        """
        What came back, if it did.
        """
        text = self.transport.value()
        return parse(text) if text else None


class Relief(RuleBasedStateMachine):
    """
    A worker is relieved.  Each client's requests are counted in its session, whoever answers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.sent: list[tuple[bytes, Deferred[None]]] = []
        self.old = Worker(self.clock, self._send)
        self.new = Worker(self.clock, None)
        self.counts: list[list[int]] = [[] for _ in range(CLIENTS)]
        self.open: list[Request] = []
        self.relieved = self.switched = False
        self.uids = []
        for _ in range(CLIENTS):
            session = self.old.site.makeSession()
            self.uids.append(session.uid)

    def _send(self, slot: int, chunk: bytes) -> Deferred[None]:
        assert not self.sent, "more than one message is on its way"
        taken: Deferred[None] = Deferred()
        self.sent.append((chunk, taken))
        return taken

    @rule(client=st.integers(0, CLIENTS - 1))
    def begin(self, client: int) -> None:
        """
        A request comes; newcomers go to the next worker once the last has given away.
        """
        worker = self.new if self.switched else self.old
        if worker is self.old and self.relieved:
            return  # newcomers wait
        self.open.append(Request(worker, client, self.uids[client]))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99))
    def end(self, which: int) -> None:
        """
        A body comes.
        """
        request = self.open[which % len(self.open)]
        if not request.whole:
            request.whole = True
            request.channel.dataReceived(b"body")
        self.look()

    @precondition(lambda self: not self.relieved)
    @rule()
    def relieve(self) -> None:
        """
        The worker is told to give everything away.
        """
        self.relieved = True
        self.old.moves.begin(True)
        self.old.moves.carry_all().addCallback(self._switch_over)

    def _switch_over(self, _: object) -> None:
        self.switched = True

    @precondition(lambda self: self.relieved)
    @rule()
    def give_connection(self) -> None:
        """
        An idle connection is given away, for which sessions go first.
        """
        self.old.moves.carry_all()

    @precondition(lambda self: self.sent)
    @rule()
    def arrive(self) -> None:
        """
        A message arrives.
        """
        chunk, taken = self.sent.pop(0)
        self.new.registry.import_chunk(chunk)
        taken.callback(None)
        self.look()

    @rule()
    def wait(self) -> None:
        """
        Time passes, and every message arrives that was sent by then.
        """
        self.settle()
        self.clock.advance(1)
        self.settle()

    def settle(self) -> None:
        """
        Let all messages arrive.
        """
        while self.sent:
            self.arrive()

    def look(self) -> None:
        """
        Check the responses that have come.
        """
        for request in list(self.open):
            response = request.response
            if response is not None:
                self.open.remove(request)
                request.worker.requests.remove(request)
                assert response.code == 200
                assert response.cookies == {}
                self.counts[request.client].append(int(response.body))

    def teardown(self) -> None:
        """
        In the end all are answered, and whoever serves now has every session.
        """
        for request in list(self.open):
            if not request.whole:
                request.whole = True
                request.channel.dataReceived(b"body")
            self.look()
            self.settle()
        self.settle()
        self.look()
        assert not self.open
        worker = self.new if self.switched else self.old
        for uid, counts in zip(self.uids, self.counts, strict=True):
            live = worker.registry.find(uid)
            assert live is not None
            assert live.data.get("hits", 0) == len(counts)
            # Those that are answered at one moment are in no order.
            assert sorted(counts) == list(range(1, len(counts) + 1))
        self.old.registry.stop()
        self.new.registry.stop()


TestRelief = Relief.TestCase
TestRelief.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
