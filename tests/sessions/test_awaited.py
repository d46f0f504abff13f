"""
Sessions that are known to be on their way.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from stickyd.errors import TransferError
from stickyd.sessions.answers import result_of
from stickyd.sessions.awaited import AwaitedSessions
from stickyd.sessions.registry import FOLLOW_LEASE_SECONDS, SessionRegistry
from stickyd.sessions.stores.memory import MemorySessionStore
from stickyd.sessions.transfer import CHUNK, followers, notices
from stickyd.sessions.web.request import AWAIT_SECONDS
from tests.sessions.web.web import Web, count


def test_waits_until_it_comes() -> None:
    """
    All who wait for it hear; nobody waits for what is not expected.
    """
    clock = Clock()
    awaited = AwaitedSessions(clock)
    awaited.expect({b"a": b"key", b"b": b""}, 5)
    waiting = [awaited.wait(b"a"), awaited.wait(b"a"), awaited.wait(b"b")]
    assert awaited.wait(b"c") is None
    awaited.arrived(b"a")
    assert [each is not None and each.called for each in waiting] == [True, True, False]
    assert awaited.wait(b"a") is None
    awaited.arrived(b"c")


def test_is_given_up_unless_it_is_said_again() -> None:
    """
    The other worker may have died.
    """
    clock = Clock()
    awaited = AwaitedSessions(clock)
    awaited.expect({b"a": b"key", b"b": b""}, 5)
    waiting = awaited.wait(b"a"), awaited.wait(b"b")
    clock.advance(3)
    awaited.expect({b"b": b""}, 5)
    clock.advance(3)
    assert [each is not None and each.called for each in waiting] == [True, False]
    clock.advance(3)
    assert not awaited.keys
    assert not clock.getDelayedCalls()


def test_notices_are_read_as_they_were_written() -> None:
    """
    As many as fit into each; a chunk of sessions is none.
    """
    keys = {b"%032d" % number: b"\0\n %d" % number for number in range(5_000)}
    chunks = list(notices(keys))
    assert len(chunks) > 1
    assert all(len(chunk) <= CHUNK for chunk in chunks)
    read = {}
    for chunk in chunks:
        read.update(followers(chunk) or {})
    assert read == keys
    assert list(notices({})) == []
    assert followers(b"stickyd-sessions 1\n") is None


def test_what_is_here_is_not_awaited() -> None:
    """
    A notice may come after the session.
    """
    clock = Clock()
    registry = SessionRegistry(MemorySessionStore(clock), clock)
    live = registry.create()
    live.save()
    (notice,) = notices({live.uid: b"", b"0" * 32: b"key"})
    registry.import_chunk(notice)
    assert registry.awaited.keys == {b"0" * 32: b"key"}
    registry.stop()


def moved() -> tuple[Web, Web]:
    """
    Two workers: a session is held in the first, and awaited in the second.
    """
    old, new = Web(count), Web(count)
    old.get()
    new.cookies = old.cookies
    (notice,) = notices({old.uid: b""})
    new.registry.import_chunk(notice)
    return old, new


def test_fault_10_other_requests_of_the_client_wait() -> None:
    """
    Fault 10: a request that comes to the next worker while another one of its client still uses
    the session in the last one waits for it, instead of making a new one.
    """
    old, new = moved()
    waiting = new.begin()
    assert waiting.transport.value() == b""
    for chunk in old.registry.export_batches():
        new.registry.import_chunk(chunk)
    assert waiting.response.body == b"2"
    assert waiting.response.cookies == {}
    assert new.get().body == b"3"


def test_fault_10_nobody_waits_for_a_session_that_is_gone() -> None:
    """
    When nobody says any more that it will come, the client gets a new one, as after a death.
    """
    _, new = moved()
    waiting = new.begin()
    new.clock.advance(FOLLOW_LEASE_SECONDS)
    assert waiting.response.body == b"1"
    assert len(waiting.response.cookies) == 1


def test_fault_10_nobody_waits_without_end() -> None:
    """
    The session of a client that waits too long is not lost: it may try again.
    """
    old, new = moved()
    waiting = new.begin()
    for _ in range(int(AWAIT_SECONDS)):
        (notice,) = notices({old.uid: b""})
        new.registry.import_chunk(notice)
        new.clock.advance(1)
    assert waiting.response.code == 503
    assert waiting.response.headers[b"retry-after"] == [b"1"]
    assert waiting.response.cookies == {}


def test_fault_10_client_that_leaves_while_it_waits() -> None:
    """
    Nothing is done for it, and nothing fails.
    """
    old, new = moved()
    waiting = new.begin()
    waiting.lose()
    for chunk in old.registry.export_batches():
        new.registry.import_chunk(chunk)
    assert new.get().body == b"2"


def test_fault_10_worker_that_is_relieved_too() -> None:
    """
    A session goes past a worker that is relieved as well; who waits there may try again.
    """
    _, new = moved()
    waiting = new.begin()
    new.registry.forward(lambda live: None, True)
    new.clock.advance(FOLLOW_LEASE_SECONDS)
    assert waiting.response.code == 503


@pytest.mark.parametrize("line", [b"id", b"id key key", b"id a", b"id \xff", b""])
def test_notice_that_is_none(line: bytes) -> None:
    """
    It is refused whole.
    """
    clock = Clock()
    registry = SessionRegistry(MemorySessionStore(clock), clock)
    refused = registry.import_chunk(b"stickyd-sessions-follow 1\nid a2V5\n" + line + b"\n")
    with pytest.raises(TransferError):
        result_of(refused)
    assert not registry.awaited.keys


def test_what_has_come_may_leave_and_come_again() -> None:
    """
    A session that has come is not waited for again, unless it has left since.
    """
    clock = Clock()
    awaited = AwaitedSessions(clock)
    awaited.expect({b"a": b"k"}, 5)
    assert awaited.has_not_come(b"a")
    awaited.come(b"a")
    assert not awaited.has_not_come(b"a")
    awaited.left(b"a")
    assert awaited.has_not_come(b"a")
    awaited.come(b"b")  # nobody has announced it
    assert awaited.has_not_come(b"b")
