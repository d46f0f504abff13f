from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from zope.interface.verify import verifyObject

from stickyd.interfaces import IReadiness
from stickyd.net.readiness import ReactorReadiness, readiness_of
from tests.transport_harness import Drive, ReactorDrive, fill, logged_failures

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ("tests.transport_fixtures",)


def counting(calls: list[str], name: str) -> Callable[[], None]:
    """
    Make a callback that writes its name down.
    """
    return lambda: calls.append(name)


def test_reader_and_writer(drive: Drive) -> None:
    """
    A reader is called again and again while there is input, a writer while there is room.
    """
    ours, theirs = socket.socketpair()
    calls: list[str] = []
    ready = drive.readiness
    ready.add_reader(ours.fileno(), counting(calls, "read"))
    drive.turns(3)
    assert calls == []
    theirs.send(b"x")
    drive.until(lambda: calls.count("read") > 2)
    ready.add_writer(ours.fileno(), counting(calls, "write"))
    drive.until(lambda: calls.count("write") > 2)
    ready.remove_reader(ours.fileno())
    ready.remove_reader(ours.fileno())
    calls.clear()
    drive.until(lambda: len(calls) > 2)
    assert set(calls) == {"write"}
    ready.remove_writer(ours.fileno())
    ready.remove_writer(ours.fileno())
    calls.clear()
    drive.turns(3)
    assert calls == []
    ours.close()
    theirs.close()


def test_removed_by_the_other_direction(drive: Drive) -> None:
    """
    A reader that removes both directions has the last word.
    """
    ours, theirs = socket.socketpair()
    ready = drive.readiness
    calls: list[str] = []

    def leave() -> None:
        calls.append("read")
        ready.remove_reader(ours.fileno())
        ready.remove_writer(ours.fileno())

    fill(ours)
    ready.add_reader(ours.fileno(), leave)
    ready.add_writer(ours.fileno(), counting(calls, "write"))
    drive.turns(3)
    assert calls == []
    theirs.send(b"x")
    drive.until(lambda: calls)
    drive.turns(3)
    assert calls == ["read"]
    ours.close()
    theirs.close()


def test_hang_up_reaches_the_writer(drive: Drive) -> None:
    """
    An owner that only waits for room hears of a hang-up, and may go on using the descriptor.
    """
    ours, theirs = socket.socketpair()
    ready = drive.readiness
    calls: list[str] = []
    fill(ours)

    def write() -> None:
        calls.append("write")
        ready.remove_writer(ours.fileno())

    ready.add_writer(ours.fileno(), write)
    drive.turns(3)
    assert calls == []
    theirs.close()
    drive.until(lambda: calls)
    ready.add_reader(ours.fileno(), counting(calls, "read"))
    drive.until(lambda: "read" in calls)
    ready.remove_reader(ours.fileno())
    ours.close()


def test_call_soon(drive: Drive) -> None:
    """
    Calls come in a later turn, in order; what they schedule comes later still.
    """
    calls: list[str] = []

    def again() -> None:
        calls.append("first")
        drive.readiness.call_soon(counting(calls, "third"))

    drive.readiness.call_soon(again)
    drive.readiness.call_soon(calls.append, "second")
    assert calls == []
    drive.until(lambda: len(calls) == 3)
    assert calls == ["first", "second", "third"]


def test_call_later(drive: Drive) -> None:
    """
    A timed call comes, unless it was cancelled.
    """
    calls: list[str] = []
    drive.readiness.call_later(0.002, calls.append, "cancelled").cancel()
    drive.readiness.call_later(0.004, calls.append, "kept")
    drive.until(lambda: calls)
    assert calls == ["kept"]


def test_failing_callbacks() -> None:
    """
    On a reactor, a callback's error is logged and costs nobody else anything.
    """
    drive = ReactorDrive()
    ours, theirs = socket.socketpair()
    calls: list[str] = []

    def fail() -> None:
        calls.append("fail")
        raise ZeroDivisionError

    theirs.send(b"x")
    with logged_failures() as failures:
        drive.readiness.add_reader(ours.fileno(), fail)
        drive.until(lambda: len(calls) > 1)
        drive.readiness.remove_reader(ours.fileno())
        calls.clear()
        drive.readiness.call_soon(fail)
        drive.readiness.call_soon(calls.append, "next")
        drive.until(lambda: "next" in calls)
    assert {failure.type for failure in failures} == {ZeroDivisionError}
    ours.close()
    theirs.close()
    drive.close()


def test_readiness_of() -> None:
    """
    An asyncio reactor gives its loop; any other is adapted.
    """
    loop = asyncio.new_event_loop()
    reactor: Any = AsyncioSelectorReactor(loop)
    assert cast("object", readiness_of(reactor)) is loop
    reactor.removeReader(reactor.waker)
    reactor.waker.connectionLost(None)
    loop.close()
    drive = ReactorDrive()
    adapted = readiness_of(drive.reactor)
    assert isinstance(adapted, ReactorReadiness)
    verifyObject(IReadiness, adapted)
    drive.close()
