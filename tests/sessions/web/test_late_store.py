"""
Requests whose session is in a store that answers later.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of twisted.web has no annotations, so that calling it is an untyped call.

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from twisted.logger import capturedLogs
from twisted.web import server

from stickyd.errors import StoreAway
from stickyd.sessions.answers import result_of
from stickyd.sessions.interfaces import ISessionData
from stickyd.sessions.record import EndReason
from tests.sessions.test_late import LateStore
from tests.sessions.web.web import COOKIE, Response, Web, count, count_and_keep

if TYPE_CHECKING:
    from collections.abc import Callable

    Render = Callable[[Any], Any]


def late_web(render: Render) -> Web:
    """
    A site over a store that answers later.
    """
    return Web(render, store_of=LateStore)


def late_get(web: Web) -> Response:
    """
    Send a request, and let the store work.
    """
    exchange = web.begin()
    web.store.run()
    web.cookies.update(exchange.response.cookies)
    return exchange.response


def test_late_store() -> None:
    """
    With a store that answers later, the session is found, and each response waits for it.
    """
    web = late_web(count)
    exchange = web.begin()
    assert exchange.transport.value() == b""
    web.store.run()
    assert exchange.response.body == b"1"
    web.cookies.update(exchange.response.cookies)
    record = result_of(web.store.behind.load(web.uid))
    assert record is not None
    assert record.data == b'{"hits":1}'
    again = web.begin()
    assert again.transport.value() == b""
    assert late_get(web).body == b"3"
    assert again.response.body == b"2"


def test_late_store_of_another_worker() -> None:
    """
    A session that another worker has made is found, and its changes are seen.
    """
    web = late_web(count)
    late_get(web)
    web.site.sessions.clear()
    gc.collect()
    assert late_get(web).body == b"2"
    record = result_of(web.store.behind.load(web.uid))
    assert record is not None
    result_of(web.store.behind.save(replace(record, data=b'{"hits":41}')))
    assert late_get(web).body == b"42"


def test_late_store_that_is_down() -> None:
    """
    If the session cannot be loaded, or cannot be saved, the request fails.
    """
    web = late_web(count)
    web.store.broken = OSError("down")
    with capturedLogs():
        assert late_get(web).code == 500
    web.store.broken = None
    late_get(web)
    web.store.broken = OSError("down")
    with capturedLogs():
        assert late_get(web).code == 500


def test_late_store_that_is_away() -> None:
    """
    While the store is away a request that needs it is told to come again, be it for the load or
    for the commit; and it gets no cookie of a session that is not stored.
    """
    web = late_web(count)
    web.store.broken = StoreAway("the store is away", 3)
    with capturedLogs():
        late_get(web)
        response = web.begin()
        web.store.run()
    assert response.response.code == 503
    assert response.response.headers[b"retry-after"] == [b"3"]
    assert response.response.cookies == {}
    web.store.broken = None
    assert late_get(web).body == b"1"
    web.store.broken = StoreAway("the store is away", 3)
    with capturedLogs():
        response = web.begin()
        web.store.run()
    assert response.response.code == 503


def test_late_store_and_a_stream() -> None:
    """
    All that is written while the store works comes after the head, in order.
    """

    def render(request: server.Request) -> int:
        count(request)
        request.write(b"one ")
        request.getSession(ISessionData)["n"] = 1
        request.write(b"two ")
        request.finish()
        return server.NOT_DONE_YET

    web = late_web(render)
    exchange = web.begin()
    assert exchange.transport.value() == b""
    web.store.run()
    body = exchange.response.body
    assert body.index(b"one") < body.index(b"two") < body.index(b"0\r\n\r\n")
    record = result_of(web.store.behind.load(exchange.response.cookies[COOKIE]))
    assert record is not None
    assert record.data == b'{"hits":1,"n":1}'


def test_late_failure_after_the_head() -> None:
    """
    If a later save of a stream fails, it is logged and the stream goes on.
    """
    requests: list[server.Request] = []

    def render(request: server.Request) -> int:
        count(request)
        request.write(b"one ")
        requests.append(request)
        return server.NOT_DONE_YET

    web = late_web(render)
    exchange = web.begin()
    web.store.run()
    count(requests[0])
    web.store.broken = OSError("down")
    requests[0].write(b"two ")
    requests[0].finish()
    assert b"two" not in exchange.transport.value()
    with capturedLogs() as events:
        web.store.run()
    assert b"two" in exchange.response.body
    assert exchange.transport.value().endswith(b"0\r\n\r\n")
    assert "what a request did to it is lost" in events[-1]["log_format"]


def test_late_client_gone() -> None:
    """
    A client that goes away while the store works gets nothing, and harms nothing.
    """
    rendered: list[bytes] = []

    def render(request: server.Request) -> bytes:
        rendered.append(count(request))
        return rendered[-1]

    web = late_web(render)
    late_get(web)
    loading = web.begin()
    loading.lose()
    web.store.run()
    assert rendered == [b"1"]
    saving = web.begin()
    web.store.run(1)
    assert rendered == [b"1", b"2"]
    saving.lose()
    web.store.run()
    assert saving.transport.value() == b""
    record = result_of(web.store.behind.load(web.uid))
    assert record is not None
    assert record.data == b'{"hits":2}'


def test_late_logout() -> None:
    """
    The response to a logout waits until the store has removed the session; if it cannot, the
    request fails.
    """

    def render(request: server.Request) -> bytes:
        hits = count(request)
        if hits == b"2":
            request.getSession().expire()
        return hits

    web = late_web(render)
    late_get(web)
    exchange = web.begin()
    web.store.run(1)
    assert exchange.transport.value() == b""
    assert result_of(web.store.behind.load(web.uid)) is not None
    web.store.run()
    assert exchange.response.body == b"2"
    assert result_of(web.store.behind.load(web.uid)) is None
    late_get(web)
    failing = web.begin()
    web.store.run(1)
    web.store.broken = OSError("down")
    with capturedLogs():
        web.store.run()
    assert failing.response.code == 500


def test_late_login() -> None:
    """
    The response to a login waits until the store has the new id; if it cannot have it, the
    request fails.
    """

    def render(request: Any) -> bytes:
        hits = count(request)
        if hits != b"1":
            request.regenerate_session()
        return hits

    web = late_web(render)
    late_get(web)
    planted = web.uid
    exchange = web.begin()
    web.store.run(2)
    assert exchange.transport.value() == b""
    web.store.run()
    assert exchange.response.body == b"2"
    web.cookies.update(exchange.response.cookies)
    found = result_of(web.store.behind.load(planted))
    assert found is not None
    assert found.uid == web.uid
    failing = web.begin()
    web.store.run(2)
    web.store.broken = OSError("down")
    with capturedLogs():
        web.store.run()
    assert failing.response.code == 500
    assert result_of(web.store.behind.load(web.uid)) is not None


def test_late_session_deleted_by_another_worker() -> None:
    """
    A request whose session another worker ends meanwhile is answered; its changes end too.
    """
    requests: list[server.Request] = []
    web = late_web(count)
    late_get(web)
    web.site.resource.render_GET = count_and_keep(requests)
    exchange = web.begin()
    web.store.run()
    result_of(web.store.behind.delete(web.uid))
    requests[0].write(b"x")
    requests[0].finish()
    web.store.run()
    assert exchange.response.code == 200
    assert web.site.sessions == {}


class Flow:
    """
    Produces without end, as long as it may.
    """

    def __init__(self, request: Any, streaming: bool) -> None:
        self.request = request
        self.runs = streaming
        self.made = 0

    def make(self) -> None:
        """
        Write one piece, if it may.
        """
        if self.runs:
            self.made += 1
            self.request.write(b"x")

    def pauseProducing(self) -> None:  # noqa: N802 -- of the interface
        """
        Rest.
        """
        self.runs = False

    def resumeProducing(self) -> None:  # noqa: N802 -- of the interface
        """
        Go on.
        """
        self.runs = True

    def stopProducing(self) -> None:  # noqa: N802 -- of the interface
        """
        Be done.
        """
        self.runs = False


@pytest.mark.parametrize("before", [True, False])
def test_late_producer_rests_during_the_commit(before: bool) -> None:
    """
    While a response is held for its commit, its producer rests, be it registered before or
    meanwhile; then it goes on.
    """
    flows: list[Flow] = []

    def render(request: Any) -> int:
        count(request)
        flow = Flow(request, True)
        flows.append(flow)
        if before:
            request.registerProducer(flow, True)
        request.write(b"head ")
        if not before:
            request.registerProducer(flow, True)
        for _ in range(1_000):
            flow.make()
        return server.NOT_DONE_YET

    web = late_web(render)
    exchange = web.begin()
    (flow,) = flows
    assert flow.made == 0
    assert exchange.transport.value() == b""
    web.store.run()
    assert flow.runs
    flow.make()
    flow.request.unregisterProducer()
    flow.request.finish()
    web.store.run()
    assert b"head " in exchange.transport.value()
    assert flow.made == 1


def test_late_producer_that_is_done_during_the_commit() -> None:
    """
    A producer that ends while the response is held is not asked again.
    """
    flows: list[Flow] = []

    def render(request: Any) -> int:
        count(request)
        flow = Flow(request, True)
        flows.append(flow)
        request.registerProducer(flow, True)
        request.write(b"all")
        request.unregisterProducer()
        request.finish()
        return server.NOT_DONE_YET

    web = late_web(render)
    exchange = web.begin()
    web.store.run()
    assert exchange.response.body.endswith(b"all") or b"all" in exchange.response.body
    assert not flows[0].runs


@pytest.mark.parametrize("overridden", [False, True])
def test_late_store_that_another_worker_has_written(overridden: bool) -> None:
    """
    A request whose changes rest on what another worker has changed meanwhile is answered with
    409, or as its resource likes, and changes nothing; the next one sees what is there.
    """
    elsewhere: list[bytes] = []

    def sorry(request: server.Request) -> None:
        request.setResponseCode(303)
        request.write(b"again")
        request.finish()

    def render(request: server.Request) -> bytes:
        if overridden:
            request.session_conflict = sorry  # type: ignore[attr-defined]  # the mixin has it
        if elsewhere:
            record = result_of(web.store.behind.load(web.uid))
            assert record is not None
            result_of(web.store.behind.save(replace(record, data=elsewhere.pop())))
        return count(request)

    web = late_web(render)
    late_get(web)
    elsewhere.append(b'{"hits":41}')
    with capturedLogs() as events:
        response = late_get(web)
    assert response.code == (303 if overridden else 409)
    assert response.body.startswith(b"again" if overridden else b"Another request has changed")
    assert not any("log_failure" in event for event in events)
    assert late_get(web).body == b"42"


def test_logout_while_another_worker_writes() -> None:
    """
    A session that another worker has written since it was loaded is ended by ``expire()`` all
    the same, and its callbacks hear of it.
    """
    told: list[str] = []

    def render(request: server.Request) -> bytes:
        if not web.cookies:
            return count(request)
        session: Any = request.getSession()
        session.notifyOnExpire(lambda: told.append("ended"))
        record = result_of(web.store.behind.load(web.uid))
        assert record is not None
        result_of(web.store.behind.save(replace(record, data=b'{"hits":41}')))
        web.registry.gone(web.uid, EndReason.SUPERSEDED)
        session.expire()
        return b"bye"

    web = late_web(render)
    late_get(web)
    with capturedLogs():
        assert late_get(web).body == b"bye"
    assert told == ["ended"]
    assert result_of(web.store.behind.load(web.uid)) is None
