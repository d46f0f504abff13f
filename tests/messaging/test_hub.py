"""
The bus of a fleet: who gets what, in which order, and what becomes of those who misbehave.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stickyd.errors import BusClosed, BusFull
from stickyd.messaging import peer as peers
from stickyd.messaging.frame import HEADER, FrameBuffer, Kind, encode, encode_number, number_in
from stickyd.messaging.queue import QUEUE_BYTES, QUEUE_MESSAGES
from tests.messaging.fleet import Bus

if TYPE_CHECKING:
    from stickyd.messaging.message import Message


def test_everybody_who_has_subscribed_gets_it(bus: Bus) -> None:
    """
    The publisher too, if it has subscribed, and nobody else.
    """
    one, two, three = bus.members
    one.hear("news")
    stop = two.hear("news")
    three.hear("other")
    bus.settle()
    one.desk.publish("news", b"1")
    two.desk.publish("news", b"2")
    three.desk.publish("nobody", b"3")
    bus.settle()
    assert one.seen == two.seen | {"news": one.seen["news"]} == {"news": [b"1", b"2"]}
    assert sorted(two.seen["news"]) == [b"1", b"2"]
    assert three.seen == {}
    assert (bus.hub.figures.published, bus.hub.figures.delivered) == (3, 2)
    stop()
    bus.settle()
    one.desk.publish("news", b"4")
    bus.settle()
    assert one.seen["news"][-1] == b"4"
    assert len(two.seen["news"]) == 2
    assert bus.hub.figures.channels == 2


def _keep(heard: list[bytes], message: Message) -> None:
    heard.append(message.data)


def test_order_of_each_publisher_is_kept(bus: Bus) -> None:
    """
    Over all channels, and for its own subscribers too.
    """
    heard: list[list[bytes]] = [[], [], []]
    for member, it in zip(bus.members, heard, strict=True):
        for channel in ("a", "b"):
            member.desk.subscribe(channel, partial(_keep, it))
    bus.settle()
    for number in range(500):
        for name, member in zip(b"xyz", bus.members, strict=True):
            member.desk.publish("ab"[number % 2], b"%c%03d" % (name, number))
        if number % 50 == 0:
            bus.step()
    bus.settle()
    for it in heard:
        for name in b"xyz":
            its = [data for data in it if data[0] == name]
            assert its == [b"%c%03d" % (name, number) for number in range(500)]


def test_sync_says_that_the_primary_knows(bus: Bus) -> None:
    """
    What was subscribed before is effective then.
    """
    one, two, _ = bus.members
    one.hear("news")
    told: list[object] = []
    one.desk.sync().deferred().addCallback(told.append)
    assert not told
    while not told:
        assert bus.step()
    two.desk.publish("news", b"1")
    bus.settle()
    assert one.seen == {"news": [b"1"]}


def test_slow_one_loses_and_nobody_else(bus: Bus) -> None:
    """
    Its losses are counted, its queue is bounded, and it goes on with what comes later.
    """
    publisher, slow, quick = bus.members
    slow.hear("news")
    quick.hear("news")
    bus.settle()
    sent = 0
    while bus.hub.figures.lost < 1000:
        for _ in range(1000):
            publisher.desk.publish("news", b"%d" % sent)
            sent += 1
        bus.settle(deaf=slow)
    figures = bus.hub.figures
    assert figures.queued <= QUEUE_MESSAGES
    assert figures.queued_bytes <= QUEUE_BYTES
    assert quick.seen["news"] == [b"%d" % number for number in range(sent)]
    bus.settle()
    # In order, and what is missing is at the end, and counted.
    assert slow.seen["news"] == quick.seen["news"][: sent - figures.lost]
    publisher.desk.publish("news", b"later")
    bus.settle()
    assert slow.seen["news"][-1] == quick.seen["news"][-1] == b"later"
    assert bus.hub.figures.queued == 0


def test_slow_one_is_bounded_in_bytes(bus: Bus) -> None:
    """
    A few large messages are as much as many small ones.
    """
    publisher, slow, _ = bus.members
    slow.hear("news")
    bus.settle()
    for _ in range(10):
        publisher.desk.publish("news", bytes(4_000_000))
        bus.settle(deaf=slow)
    assert bus.hub.figures.queued_bytes <= QUEUE_BYTES
    lost = bus.hub.figures.lost
    assert 5 <= lost <= 7
    bus.settle()
    assert len(slow.seen["news"]) == 10 - lost


def test_publisher_is_told_when_too_much_waits(bus: Bus) -> None:
    """
    Nothing is lost in silence, and what was taken arrives.
    """
    one, two, _ = bus.members
    two.hear("news")
    bus.settle()
    for number in range(QUEUE_MESSAGES):
        one.desk.publish("news", b"%d" % number)
    with pytest.raises(BusFull, match="65536 messages"):
        one.desk.publish("news", b"no")
    # Subscriptions pass all the same.
    one.hear("other")
    bus.settle()
    assert two.seen["news"] == [b"%d" % number for number in range(QUEUE_MESSAGES)]
    two.desk.publish("other", b"yes")
    bus.settle()
    assert one.seen == {"other": [b"yes"]}


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        HEADER.pack(2**31, Kind.PUBLISH, 3),
        encode(Kind.HELLO, b"", b"x"),
        encode(Kind.UNSUBSCRIBE, b"news"),
        encode(Kind.SUBSCRIBE, b"news") * 2,
        b"".join(encode(Kind.SUBSCRIBE, b"%d" % number) for number in range(11)),
    ],
)
def test_garbage_ends_its_own_bus_alone(
    bus: Bus, garbage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The others notice nothing; the worker is not on the bus any more, and knows it.
    """
    monkeypatch.setattr("stickyd.messaging.hub.MOST_CHANNELS", 10)
    one, two, bad = bus.members
    for member in bus.members:
        member.hear("x")
    bus.settle()
    _, hostile = bus.raw()
    with hostile:
        hostile.sendall(garbage)
        bus.settle()
        hostile.recv(100)  # the greeting
        assert hostile.recv(100) == b""
    bad.socket.send(garbage[:0] or b"\xff" * 10)
    bus.settle()
    with pytest.raises(BusClosed, match="the primary has ended the bus of this worker"):
        bad.desk.publish("x", b"1")
    with pytest.raises(BusClosed):
        bad.desk.subscribe("y", print)
    one.desk.publish("x", b"2")
    bus.settle()
    assert one.seen == two.seen == {"x": [b"2"]}
    assert bad.seen == {}


@given(st.binary(max_size=200))
@settings(max_examples=40)
def test_any_bytes_from_a_worker_harm_nobody(data: bytes) -> None:
    """
    Whatever it says, the others go on.
    """
    bus = Bus(2)
    one, two = bus.members
    two.hear("news")
    _, hostile = bus.raw()
    with hostile:
        hostile.sendall(data)
        bus.settle()
        one.desk.publish("news", b"1")
        bus.settle()
    assert two.seen == {"news": [b"1"]}
    bus.close()


def test_dead_one_is_heard_to_its_end(bus: Bus) -> None:
    """
    What it had said before it died arrives, and nobody else misses a thing.
    """
    one, two, three = bus.members
    for member in bus.members:
        member.hear("news")
    bus.settle()
    frames = [encode(Kind.PUBLISH, b"news", b"%d" % number) for number in range(1000)]
    one.line.close("dead")
    bus.members.remove(one)
    _, dying = bus.raw()
    dying.sendall(b"".join(frames))
    dying.close()
    bus.peers[-1].end()
    two.desk.publish("news", b"after")
    bus.settle()
    assert three.seen["news"] == [*(b"%d" % number for number in range(1000)), b"after"]


def test_unread_messages_of_a_dead_one_harm_nobody(bus: Bus) -> None:
    """
    The kernel says "reset" of it once; what it had said is read all the same.
    """
    one, two, _ = bus.members
    two.hear("news")
    _, dying = bus.raw()
    dying.sendall(encode(Kind.SUBSCRIBE, b"news"))
    bus.settle()
    one.desk.publish("news", b"unread")
    bus.settle()
    dying.sendall(encode(Kind.PUBLISH, b"news", b"last"))
    dying.close()
    bus.settle()
    one.desk.publish("news", b"after")
    bus.settle()
    assert two.seen["news"] == [b"unread", b"last", b"after"]


def test_state_goes_over_to_new_code(bus: Bus) -> None:
    """
    Half a frame that was read, and what was not sent yet, with the subscriptions.
    """
    one, two, three = bus.members
    for member in (two, three):
        member.hear("news")
    bus.settle()
    _, cut = bus.raw()
    whole = encode(Kind.PUBLISH, b"news", b"in two parts")
    cut.sendall(whole[:11])
    big = [bytes([number]) * 1_000_000 for number in range(5)]
    for data in big:
        one.desk.publish("news", data)
    bus.settle(deaf=three)
    former = bus.hub
    bus.upgrade()
    cut.sendall(whole[11:])
    cut.close()
    bus.settle()
    one.desk.publish("news", b"new")
    bus.settle()
    assert two.seen["news"] == three.seen["news"] == [*big, b"in two parts", b"new"]
    assert former.fleet == bus.hub.fleet == one.line.fleet
    assert bus.hub.figures.published == 7


def test_sync_of_one_that_does_not_read_is_bounded(bus: Bus) -> None:
    """
    However often it asks, one answer waits.
    """
    one, _, _ = bus.members
    _, asking = bus.raw()
    with asking:
        asking.sendall(encode(Kind.SUBSCRIBE, b"news"))
        bus.settle()
        one.desk.publish("news", bytes(2_000_000))
        bus.settle()
        for number in range(1, 1001):
            asking.sendall(encode_number(Kind.SYNC, number))
            bus.settle()
        assert bus.hub.figures.queued == 1
        buffer, numbers = FrameBuffer(), []
        while 1000 not in numbers:
            bus.settle()
            frames = buffer.feed(asking.recv(1_000_000))
            numbers += [number_in(frame) for frame in frames if frame[0] == Kind.SYNC]
        assert len(numbers) == 1


def test_too_many_channels_are_an_error_first(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The application hears of it, and its bus goes on.
    """
    monkeypatch.setattr("stickyd.messaging.desk.MOST_CHANNELS", 3)
    one = bus.members[0]
    for name in "abc":
        one.hear(name)
    with pytest.raises(ValueError, match="3 channels, which are the most"):
        one.hear("d")
    one.hear("a")
    assert peers.MOST_CHANNELS > 1000
