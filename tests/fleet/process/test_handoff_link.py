"""
The primary's end of a worker's handoff channel: what it sends, and what comes back.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest
from twisted.logger import capturedLogs, formatEvent

from stickyd.fleet.process.handoff_link import QUIET_SECONDS, STARVED_SECONDS
from stickyd.fleet.process.process import WorkerProcess
from stickyd.handoff.frame import Flag, Handoff, Purpose
from tests.channels import connection, no_descriptor_free, open_sockets
from tests.fleet.process.rig import KILLED, Rig, taking


def listener() -> Handoff:
    """
    A listening socket on its way.
    """
    return Handoff(socket.socket().detach(), "", 0, b"", b"3", 3, Purpose.LISTENER)


def test_connections_travel_to_the_worker(rig: Rig) -> None:
    """
    What the slot delivers is received at the other end, and acknowledged.
    """
    end = rig.reactor.handoffs
    assert end is not None
    end.channel.open()
    rig.turn()
    rig.slot.occupy(rig.worker)
    handoff, client = connection("x", "")
    rig.slot.deliver(handoff)
    assert len(rig.worker.in_flight) == 1
    rig.turn()
    assert [got.key for got in end.received()] == [b"x"]
    assert len(rig.worker.in_flight) == 0
    client.close()


def test_those_who_wait_are_sent_when_there_is_room(rig: Rig) -> None:
    """
    The channel's news of room reaches the slot.
    """
    end = rig.reactor.handoffs
    assert end is not None
    rig.slot.occupy(rig.worker)
    handoff, client = connection("x", "")
    rig.slot.deliver(handoff)
    assert list(rig.slot.queue) == [handoff]
    end.channel.open()
    rig.turn()
    assert not rig.slot.queue
    assert [got.key for got in end.received()] == [b"x"]
    client.close()


def test_returned_connection_goes_back_to_its_slot(rig: Rig) -> None:
    """
    One that the worker could not receive waits in the slot again.
    """
    handoff = Handoff(0, "192.0.2.1", 1, b"key")
    rig.worker.link.returned(handoff)
    assert list(rig.slot.queue) == [handoff]
    rig.slot.release()


def test_listening_socket_is_sent_when_there_is_room(rig: Rig) -> None:
    """
    It waits for the worker's window like a connection, beside the slot's queue, and our
    copy is closed when the worker has it.
    """
    end = rig.reactor.handoffs
    assert end is not None
    before = len(open_sockets())
    rig.slot.occupy(rig.worker)
    rig.worker.entrust(listener())
    assert not rig.worker.quiet
    assert not rig.slot.queue
    end.channel.open()
    rig.turn()
    (got,) = end.received()
    assert (got.purpose, got.unread) == (Purpose.LISTENER, b"3")
    assert len(open_sockets()) == before + 1


@pytest.mark.parametrize("sent", [False, True])
def test_listening_socket_is_nothing_to_replay(sent: bool, rig: Rig) -> None:
    """
    Of a worker that dies, neither what it was not sent nor what it did not take is kept;
    its connections are.
    """
    end = rig.reactor.handoffs
    assert end is not None
    before = open_sockets()
    rig.worker.entrust(listener())
    expected = []
    if sent:
        end.channel.open()
        rig._turn_ours()
        handoff, client = connection("x", "")
        client.close()
        assert rig.worker.send(handoff)
        expected.append(handoff)
    assert len(rig.worker.in_flight) == 2 * sent
    assert rig.worker.reclaim() == expected
    for handoff in expected:
        os.close(handoff.descriptor)
    assert open_sockets() < before  # the channel's own is gone, too


def test_listening_socket_that_could_not_be_received_is_sent_again(rig: Rig) -> None:
    """
    It is the worker's, not the slot's: the slot does not queue it.
    """
    end = rig.reactor.handoffs
    assert end is not None
    rig.worker.link.returned(listener())
    assert not rig.slot.queue
    end.channel.open()
    rig.turn()
    assert [got.purpose for got in end.received()] == [Purpose.LISTENER]


def test_worker_is_told_to_accept_again(rig: Rig) -> None:
    """
    By the control channel, behind the release that had it cease.
    """
    rig.ready()
    rig.worker.accept()
    rig.flush()
    assert rig.reactor.control.accepts == 1


def test_connection_that_a_worker_gives_back_is_delivered(rig: Rig) -> None:
    """
    What a worker passes on goes where the spawner was told, and is not lost with the
    worker.
    """
    end = rig.reactor.handoffs
    assert end is not None
    end.channel.open()
    rig.turn()
    handoff, client = connection("back", "")
    assert end.channel.send(handoff)
    rig.die()
    rig.worker.reclaim()
    assert [got.key for got in rig.returns.delivered] == [b"back"]
    client.close()


def test_starved_primary_says_what_to_raise(rig: Rig) -> None:
    """
    A connection that the primary cannot take back for want of descriptors is told.
    """
    with capturedLogs() as events:
        rig.worker.link.starved()
    (line,) = [formatEvent(event) for event in events]
    assert "from worker 4711: raise the limit" in line


@pytest.mark.parametrize("window", [0, 8])
def test_release_waits_for_what_is_on_its_way(window: int, rig: Rig) -> None:
    """
    The worker is asked to give away when it has taken what was sent to it, also if it takes
    no more for now.
    """
    end = taking(rig)
    handoff, client = connection("x", "")
    rig.slot.deliver(handoff)
    given: list[None] = []
    rig.worker.release(None).addCallback(given.append)
    rig.flush()
    assert rig.reactor.control.releases == []
    end.window = window
    rig.turn()
    rig.flush()
    assert rig.reactor.control.releases == [(0, [])]
    assert given == [None]
    client.close()


@pytest.mark.parametrize(
    ("say", "said"),
    [
        (lambda worker: worker.stay(), (-1, [])),
        (lambda worker: worker.stop(1.0), "stop"),
        (lambda worker: worker.tell_places(2, [0]), (2, [0])),
    ],
    ids=["stay", "stop", "places"],
)
def test_release_is_overtaken_by_nothing(
    say: Callable[[WorkerProcess], None], said: object, rig: Rig
) -> None:
    """
    A worker that is late with what is on its way to it hears of the release before what was
    said later: it believes what it hears last.
    """
    taking(rig)
    handoff, client = connection("x", "")
    rig.slot.deliver(handoff)
    rig.worker.release(None)
    say(rig.worker)
    rig.flush()
    control = rig.reactor.control
    assert control.heard[-2:] == [(0, []), said]
    rig.turn()
    rig.flush()
    assert control.heard[-2:] == [(0, []), said]
    client.close()


def test_release_by_a_placement(rig: Rig) -> None:
    """
    The worker hears how many slots there are and which of them are available.
    """
    taking(rig)
    rig.worker.release((3, [0, 2]))
    rig.flush()
    assert rig.reactor.control.releases == [(3, [0, 2])]


def test_death_is_told_before_its_release_fails(rig: Rig) -> None:
    """
    Whoever waits for the release learns that it is over when the worker is known to be dead
    already, so that nobody tells a dead worker to stop.
    """
    taking(rig)
    handoff, client = connection("x", "")
    rig.slot.deliver(handoff)
    told_by_then: list[list[str]] = []
    rig.worker.release(None).addErrback(lambda _: told_by_then.append(rig.told[1:]))
    rig.die(KILLED)
    assert told_by_then == [["died of signal 9 (SIGKILL)"]]
    client.close()


def test_wish_of_the_dead_is_not_told(rig: Rig) -> None:
    """
    A worker that asked to be relieved and died is not relieved again, when its death is
    heard of first.
    """
    taking(rig)
    asked: list[object] = []
    rig.worker._events.leaving = asked.append  # type: ignore[assignment, method-assign]
    rig.worker.wants_to_leave()
    rig.die()
    rig.worker.wants_to_leave()
    assert asked == [rig.worker]


def test_starved_primary_closes_its_window_for_a_moment(rig: Rig) -> None:
    """
    While a connection could not be taken back for want of descriptors the worker may send
    none; after a moment it may again, and the connection comes with the second attempt.
    """
    end = taking(rig)
    handoff, client = connection("back", "")
    assert end.channel.send(handoff)
    with no_descriptor_free():
        for callback in list(rig.readiness.readers.values()):
            callback()
    end.turn()
    (returned,) = end.receiver.handoffs("returned")
    assert returned is handoff
    assert not end.channel.send(handoff)
    rig.reactor.advance(STARVED_SECONDS / 2)
    rig.turn()
    assert not end.channel.send(handoff)
    rig.reactor.advance(STARVED_SECONDS / 2)
    rig.turn()
    assert end.channel.send(handoff)
    rig.turn()
    assert [got.key for got in rig.returns.delivered] == [b"back"]
    client.close()
    end.receiver.events.clear()


def test_starved_primary_is_told_of_once_in_a_while(rig: Rig) -> None:
    """
    The log has one line for a shortage that lasts, and another one when it is told for long.
    """
    with capturedLogs() as events:
        for _ in range(3):
            rig.worker.link.starved()
            rig.reactor.advance(STARVED_SECONDS)
        assert len(events) == 1
        rig.reactor.advance(QUIET_SECONDS)
        rig.worker.link.starved()
    assert len(events) == 2


def test_starved_window_of_a_worker_that_has_ended(rig: Rig) -> None:
    """
    The moment may be over when the channel is closed already.
    """
    taking(rig)
    rig.worker.link.starved()
    rig.die()
    rig.worker.reclaim()
    rig.reactor.advance(STARVED_SECONDS)
    assert not rig.worker.send(Handoff(0, "192.0.2.1", 1, b"key"))


def test_a_client_that_its_worker_does_not_know_is_looked_for_elsewhere(rig: Rig) -> None:
    """
    The primary forgets it for that worker, and places the connection as any other.
    """
    assert rig.returns.learned == []
    # It is closed with the rig, so it must not be somebody's.
    descriptor = os.open(os.devnull, os.O_RDONLY)
    handoff = Handoff(descriptor, "192.0.2.1", 1, b"key", flags=Flag.MOVED_ON | Flag.PLACED)
    rig.worker.link.received(handoff)
    home = rig.slot.index, rig.worker.generation
    assert rig.returns.learned == [(home, [b"key"], (), True)]
    assert rig.returns.delivered == [handoff]
    assert handoff.flags == Flag.SERVED | Flag.PLACED
