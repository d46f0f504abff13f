"""
The handoff channel: pairing, acknowledging, giving back.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from stickyd.handoff import channel as channel_module
from stickyd.handoff.fd_passing import send_rights
from stickyd.handoff.frame import Handoff, encode_ack, encode_handoff, encode_nack
from stickyd.interfaces import IHandoffSender
from tests.channels import Pair, connection, no_descriptor_free, open_sockets


@pytest.fixture
def pair() -> Iterator[Pair]:
    """
    A pair of ends; no descriptor is left when the test is over.
    """
    before = open_sockets()
    pair = Pair()
    clients: list[socket.socket] = []
    pair.clients = clients  # type: ignore[attr-defined]
    yield pair
    pair.close()
    for client in clients:
        client.close()
    assert open_sockets() == before


def send(pair: Pair, *names: str) -> list[socket.socket]:
    """
    Send a new connection for each name; the clients' ends.
    """
    clients = []
    for name in names:
        handoff, client = connection(name)
        assert pair.primary.channel.send(handoff)
        clients.append(client)
    pair.clients.extend(clients)  # type: ignore[attr-defined]
    return clients


def test_channel_is_a_sender(pair: Pair) -> None:
    """
    The channel provides what the primary's slots expect.
    """
    assert verifyObject(IHandoffSender, pair.primary.channel)


def test_connection_arrives_unread_with_its_header(pair: Pair) -> None:
    """
    The receiver gets the connection itself, with what the client has sent still in it.
    """
    send(pair, "client")
    pair.settle()
    (got,) = pair.worker.received()
    assert (got.host, got.port, got.key) == ("client", 1, b"client")
    assert os.read(got.descriptor, 100) == b"client"
    assert not os.get_inheritable(got.descriptor)


def test_sender_keeps_its_copy_until_the_acknowledgement(pair: Pair) -> None:
    """
    The sender's descriptor is open while the connection is under way, and closed after.
    """
    send(pair, "client")
    (ours,) = pair.primary.channel.in_flight
    os.fstat(ours.descriptor)
    pair.settle()
    assert not pair.primary.channel.in_flight
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ours.descriptor)


def test_receiver_acknowledges_before_it_hands_over(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When the receiver's owner gets a connection, the acknowledgement is already sent.
    """
    seen = []

    def received(handoff: object) -> None:
        seen.append(pair.primary.socket.recv(100, socket.MSG_PEEK))
        pair.worker.receiver.events.append(("received", handoff))  # type: ignore[arg-type]

    monkeypatch.setattr(pair.worker.receiver, "received", received)
    send(pair, "a", "b")
    pair.worker.turn()
    assert seen == [encode_ack(2, 8)] * 2


def test_window_bounds_what_is_under_way(pair: Pair) -> None:
    """
    No more is sent than the receiver allows; when it acknowledges, the owner is told.
    """
    send(pair, *"12345678")
    ninth, client = connection("9")
    pair.clients.append(client)  # type: ignore[attr-defined]
    assert not pair.primary.channel.send(ninth)
    pair.primary.receiver.events.clear()
    pair.settle()
    assert ("room", None) in pair.primary.receiver.events
    assert pair.primary.channel.send(ninth)


def test_acknowledgement_without_a_window_is_told_too(pair: Pair) -> None:
    """
    Who waits for nothing to be under way hears of it, even if the other end takes no more.
    """
    handoff, client = connection("x")
    assert pair.primary.channel.send(handoff)
    pair.primary.receiver.events.clear()
    pair.worker.window = 0
    pair.settle()
    assert not pair.primary.channel.in_flight
    assert pair.primary.receiver.events == [("room", None)]
    client.close()


def test_nothing_is_sent_before_the_first_window() -> None:
    """
    A receiver that has not opened its end is sent nothing.
    """
    pair = Pair(window=0)
    handoff, client = connection("early")
    assert not pair.primary.channel.send(handoff)
    pair.worker.window = 1
    pair.worker.channel.announce()
    pair.settle()
    assert pair.primary.channel.send(handoff)
    for end in (pair.primary, pair.worker):
        for left in end.channel.reclaim():
            os.close(left.descriptor)
    client.close()


def test_dropped_descriptor_is_never_paired_with_another_header(pair: Pair) -> None:
    """
    At the receiver's RLIMIT_NOFILE every connection is either refused and sent again, or
    served under its own header (trap 1 of the peers).
    """
    send(pair, "a", "b", "c")
    with no_descriptor_free():
        pair.worker.turn()
    assert [name for name, _ in pair.worker.receiver.events if name == "starved"] == ["starved"] * 3
    assert not pair.worker.received()
    pair.settle()
    returned = pair.primary.receiver.handoffs("returned")
    assert [(h.host, h.refusals) for h in returned] == [("a", 1), ("b", 1), ("c", 1)]
    pair.primary.receiver.events.clear()
    for handoff in returned:
        assert pair.primary.channel.send(handoff)
    pair.settle()
    for handoff in pair.worker.received():
        assert os.read(handoff.descriptor, 100).decode() == handoff.host


def test_nack_in_the_middle_of_a_batch_takes_only_its_own(pair: Pair) -> None:
    """
    One dropped descriptor among others comes back; the others are acknowledged.
    """
    send(pair, "a")
    pair.worker.turn()
    send(pair, "b", "c")
    # Room for one more descriptor: "b" or "c" has to be dropped.
    spare = os.dup(0)
    with no_descriptor_free():
        os.close(spare)
        pair.worker.turn()
    pair.settle()
    served = {h.host for h in pair.worker.received()}
    returned = {h.host for h in pair.primary.receiver.handoffs("returned")}
    assert served | returned == {"a", "b", "c"}
    assert not served & returned
    assert len(returned) == 1
    for handoff in pair.worker.received():
        assert os.read(handoff.descriptor, 100).decode() == handoff.host


def test_unacknowledged_connections_come_back_when_the_receiver_dies(pair: Pair) -> None:
    """
    A dead receiver's unread connections are reclaimed, oldest first, still readable.
    """
    send(pair, "a", "b")
    pair.worker.die()
    back = pair.primary.channel.reclaim()
    assert [h.host for h in back] == ["a", "b"]
    assert [os.read(h.descriptor, 100) for h in back] == [b"a", b"b"]
    for handoff in back:
        os.close(handoff.descriptor)


def test_acknowledged_connections_are_never_reclaimed(pair: Pair) -> None:
    """
    An acknowledgement that is still in the socket when the receiver dies with unread
    messages counts: what it took may have been acted upon.
    """
    send(pair, "taken")
    pair.worker.turn()
    send(pair, "unread")
    # Closing with "unread" in the queue makes the kernel report ECONNRESET once.
    pair.worker.die()
    back = pair.primary.channel.reclaim()
    assert [h.host for h in back] == ["unread"]
    os.close(back[0].descriptor)


def test_end_of_the_channel_is_told_once(pair: Pair) -> None:
    """
    When the other end closes, the owner is told and nothing spins.
    """
    pair.worker.die()
    pair.settle()
    assert [name for name, _ in pair.primary.receiver.events].count("lost") == 1
    assert not pair.primary.readiness.readers


def test_sending_to_a_dead_receiver_keeps_the_handoff(pair: Pair) -> None:
    """
    A send that the kernel refuses since the receiver is gone leaves the handoff ours.
    """
    pair.worker.die()
    handoff, client = connection("late")
    assert not pair.primary.channel.send(handoff)
    assert not pair.primary.channel.in_flight
    os.close(handoff.descriptor)
    client.close()


def test_full_socket_asks_for_writability() -> None:
    """
    When the socket itself is full before the window is, sending goes on once it drains.
    """
    pair = Pair(window=60000)
    sent, clients, refused = 0, [], None
    for number in range(2000):
        handoff, client = connection(str(number))
        clients.append(client)
        if not pair.primary.channel.send(handoff):
            refused = handoff
            break
        sent += 1
    assert refused is not None
    assert pair.primary.readiness.writers
    pair.primary.receiver.events.clear()
    pair.settle()
    assert ("room", None) in pair.primary.receiver.events
    assert not pair.primary.readiness.writers
    assert [h.host for h in pair.worker.received()] == [str(n) for n in range(sent)]
    for handoff in (refused, *pair.worker.received()):
        os.close(handoff.descriptor)
    for client in clients:
        client.close()
    pair.primary.channel.reclaim()
    pair.worker.channel.reclaim()


@pytest.mark.parametrize("shortage", [errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS, errno.EIO])
def test_shortages_are_tried_again_after_a_moment(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, shortage: int
) -> None:
    """
    An error that no event ends is waited out; the handoff stays ours meanwhile.
    """

    def refuse(*_: object) -> None:
        raise OSError(shortage, os.strerror(shortage))

    handoff, client = connection("x")
    with monkeypatch.context() as patched:
        patched.setattr(channel_module, "send_rights", refuse)
        assert not pair.primary.channel.send(handoff)
        assert not pair.primary.channel.send(handoff)
    pair.primary.receiver.events.clear()
    pair.primary.clock.advance(channel_module.RETRY_SECONDS)
    assert pair.primary.receiver.events == [("room", None)]
    assert pair.primary.channel.send(handoff)
    pair.clients.append(client)  # type: ignore[attr-defined]


def test_connections_wait_until_their_acknowledgement_is_sent(pair: Pair) -> None:
    """
    A receiver that cannot acknowledge, as its socket is full, does not read either.
    """
    worker, filler = pair.worker, 0
    while True:
        try:
            worker.socket.send(encode_ack(0, 8))
            filler += 1
        except BlockingIOError:
            break
    send(pair, "a")
    worker.turn()
    assert not worker.received()
    for _ in range(filler):
        pair.primary.turn()
    pair.settle()
    assert [h.host for h in worker.received()] == ["a"]


@pytest.mark.parametrize(
    ("message", "with_descriptor"),
    [
        (b"not a frame", False),
        (encode_ack(99, 8), False),
        (encode_nack(99), False),
        (encode_ack(0, 8), True),
    ],
)
def test_broken_protocol_ends_the_channel(
    pair: Pair, message: bytes, with_descriptor: bool
) -> None:
    """
    What is no frame, or acknowledges what was never sent, is not acted upon: the channel
    ends, says so, and leaks no descriptor.
    """
    if with_descriptor:
        send_rights(pair.worker.socket, message, 0)
    else:
        pair.worker.socket.send(message)
    pair.primary.turn()
    assert pair.primary.receiver.events[-1] == ("broken", None)
    assert len(pair.primary.receiver.problems) == 1


def test_gap_in_the_numbers_ends_the_channel(pair: Pair) -> None:
    """
    A handoff that does not follow the last one is refused, and its descriptor closed.
    """
    handoff, client = connection("odd")
    handoff.sequence = 5
    send_rights(pair.primary.socket, encode_handoff(handoff), handoff.descriptor)
    before = open_sockets()
    pair.worker.turn()
    assert open_sockets() == before
    assert pair.worker.receiver.events[-1] == ("broken", None)
    os.close(handoff.descriptor)
    client.close()


def test_two_descriptors_in_one_message_are_refused(pair: Pair) -> None:
    """
    A message with a descriptor too many could pair it wrongly: it ends the channel.
    """
    handoff, client = connection("odd")
    handoff.sequence = 1
    before = open_sockets()
    socket.send_fds(pair.primary.socket, [encode_handoff(handoff)], [handoff.descriptor, 0])
    pair.worker.turn()
    assert open_sockets() == before
    assert pair.worker.receiver.events[-1] == ("broken", None)
    os.close(handoff.descriptor)
    client.close()


def test_connections_travel_both_ways(pair: Pair) -> None:
    """
    A worker gives a connection back by the same means, with the bytes it has read.
    """
    handoff, client = connection("back")
    handoff.unread = os.read(handoff.descriptor, 100)
    handoff.slot = 3
    assert pair.worker.channel.send(handoff)
    pair.clients.append(client)  # type: ignore[attr-defined]
    pair.settle()
    (got,) = pair.primary.received()
    assert (got.unread, got.slot) == (b"back", 3)


def test_connection_given_back_by_a_dying_worker_is_kept(pair: Pair) -> None:
    """
    What a worker passed back before it died is delivered when its channel is reclaimed.
    """
    handoff, client = connection("last")
    assert pair.worker.channel.send(handoff)
    pair.clients.append(client)  # type: ignore[attr-defined]
    assert not pair.primary.channel.reclaim()
    assert [h.host for h in pair.primary.received()] == ["last"]


def test_reclaim_is_final(pair: Pair) -> None:
    """
    A reclaimed channel has closed its socket, sends nothing and reclaims nothing more.
    """
    pair.primary.channel.reclaim()
    handoff, client = connection("late")
    assert not pair.primary.channel.send(handoff)
    assert pair.primary.channel.reclaim() == []
    assert pair.primary.socket.fileno() == -1
    os.close(handoff.descriptor)
    client.close()


def test_limit_is_what_it_was() -> None:
    """
    Running out of descriptors on purpose leaves the limit of the test process as it was.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with no_descriptor_free(), pytest.raises(OSError, match="Too many open files"):
        os.dup(0)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_fault_16_a_flood_of_handoffs_beyond_the_window_ends_the_channel(pair: Pair) -> None:
    """
    Fault 16: who sends more than our window ever allowed is not listened to, and none of its
    descriptors stays open.
    """
    client, server = socket.socketpair()
    before = open_sockets()
    for sequence in range(1, 10):
        flooding = Handoff(server.fileno(), "", 0, b"")
        flooding.sequence = sequence
        send_rights(pair.worker.socket, encode_handoff(flooding), server.fileno())
    pair.primary.turn()
    assert ("broken", None) in pair.primary.receiver.events
    assert "handoff 9, where 8 was the last" in pair.primary.receiver.problems[0]
    assert len(open_sockets() - before) == len(pair.primary.received()) == 8
    client.close()
    server.close()


def test_fault_16_what_a_broken_end_had_acknowledged_is_not_served_again(pair: Pair) -> None:
    """
    Fault 16: behind a message that breaks the protocol, acknowledgements still count when the
    process is gone; its handoffs do not.
    """
    send(pair, "a", "b")
    pair.worker.socket.send(b"nonsense")
    pair.worker.socket.send(encode_ack(1, 8))
    pair.primary.turn()
    assert len(pair.primary.receiver.problems) == 1
    pair.worker.die()
    back = pair.primary.channel.reclaim()
    assert [handoff.host for handoff in back] == ["b"]
    os.close(back[0].descriptor)
    assert len(pair.primary.receiver.problems) == 1


def test_one_connection_that_cannot_be_taken_harms_no_other(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An error about one connection of a batch loses none of the others.
    """
    got = []

    def received(handoff: Handoff) -> None:
        os.close(handoff.descriptor)
        if handoff.host == "bad":
            raise ValueError("bad")
        got.append(handoff.host)

    monkeypatch.setattr(pair.worker.receiver, "received", received)
    send(pair, "a", "bad", "c")
    with capturedLogs() as told:
        pair.worker.turn()
    assert got == ["a", "c"]
    assert len(told) == 1


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60) | st.builds(
    lambda head, rest: bytes(head) + rest,
    st.tuples(st.just(1), st.integers(0, 4), st.integers(0, 4), st.integers(0, 255)),
    st.binary(max_size=60),
), max_size=8), st.booleans())  # fmt: skip
def test_fault_16_fuzzed_messages_leak_nothing(
    messages: list[bytes], with_descriptor: bool
) -> None:
    """
    Fault 16: whatever bytes come from a worker, with or without a descriptor, nothing raises,
    and every descriptor is closed or handed over once.
    """
    pair = Pair()
    before = open_sockets()
    ours, theirs = socket.socketpair()
    for message in messages:
        if message and with_descriptor:
            send_rights(pair.worker.socket, message, theirs.fileno())
        elif message:
            pair.worker.socket.send(message)
    ours.close()
    theirs.close()
    pair.primary.turn()
    pair.worker.die()
    before -= {-1}
    for handoff in pair.primary.channel.reclaim() + pair.primary.received():
        os.close(handoff.descriptor)
    assert not open_sockets() - before
