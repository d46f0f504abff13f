"""
Channels' layer: each layer here stands for one worker.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull

from stickyd import bus
from stickyd.adapters import inbox
from stickyd.channels import ChannelLayer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """
    Run a test's coroutine, within reason.
    """
    asyncio.run(asyncio.wait_for(coroutine, 30))


@asynccontextmanager
async def layers(count: int = 2, **options: Any) -> AsyncIterator[list[ChannelLayer]]:
    """
    Make layers that tell each other, as those of so many workers.
    """
    made = [ChannelLayer(**options) for _ in range(count)]
    try:
        yield made
    finally:
        for layer in made:
            await layer.close()


async def settle() -> None:
    """
    Let everything that was published arrive.
    """
    for _ in range(20):
        await asyncio.sleep(0)


async def is_empty(layer: ChannelLayer, channel: str) -> bool:
    """
    Whether nothing is there for a channel.
    """
    await settle()
    receiving = asyncio.ensure_future(layer.receive(channel))
    await settle()
    empty = not receiving.done()
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    return empty


def test_a_group_reaches_its_channels_in_all_workers() -> None:
    """
    Each once, in order, and no other.
    """

    async def go() -> None:
        async with layers(3) as (one, two, three):
            channels = [await layer.new_channel() for layer in (one, one, two, three)]
            homes = [one, one, two, three]
            for layer, channel in zip(homes, channels, strict=True):
                await layer.group_add("room", channel)
            await two.group_discard("room", channels[2])
            for number in range(3):
                await one.group_send("room", {"number": number})
            await three.group_send("room", {"number": 3})
            for layer, channel in ((one, channels[0]), (one, channels[1]), (three, channels[3])):
                said = [(await layer.receive(channel))["number"] for _ in range(4)]
                assert sorted(said) == [0, 1, 2, 3]
                assert [number for number in said if number < 3] == [0, 1, 2]
                assert await is_empty(layer, channel)
            assert await is_empty(two, channels[2])

    run(go())


def test_a_channel_of_another_worker() -> None:
    """
    It is sent to, and added to a group, from everywhere; it is received from where it is.
    """

    async def go() -> None:
        async with layers() as (here, there):
            channel = await there.new_channel("chat")
            assert channel.startswith("chat.")
            await here.send(
                channel, {"text": "é", "data": b"\0\xff", "some": {1: [1.5, None, True, (2,)]}}
            )
            assert await there.receive(channel) == {
                "text": "é",
                "data": b"\0\xff",
                "some": {1: [1.5, None, True, [2]]},
            }
            with pytest.raises(AssertionError, match="another process"):
                await here.receive(channel)
            await here.group_add("room", channel)
            await settle()
            await here.group_send("room", {"number": 1})
            assert await there.receive(channel) == {"number": 1}
            await here.group_discard("room", channel)
            await settle()
            await here.group_send("room", {"number": 2})
            assert await is_empty(there, channel)

    run(go())


def test_each_message_of_a_common_channel_is_received_once() -> None:
    """
    Whoever waits gets it, wherever that is, and whoever asks later gets what waits.
    """

    async def go() -> None:
        async with layers(3) as (one, two, three):
            await one.send("work", {"number": 0})
            assert await two.receive("work") == {"number": 0}
            waiting = [
                asyncio.ensure_future(layer.receive("work")) for layer in (two, three, three)
            ]
            await settle()
            for number in range(1, 4):
                await one.send("work", {"number": number})
            got = await asyncio.gather(*waiting)
            assert sorted(message["number"] for message in got) == [1, 2, 3]
            for number in range(4, 8):
                await (one if number % 2 else two).send("work", {"number": number})
            got = [await three.receive("work") for _ in range(4)]
            assert sorted(message["number"] for message in got) == [4, 5, 6, 7]
            for layer in (one, two, three):
                assert await is_empty(layer, "work")

    run(go())


def test_whoever_stops_waiting_takes_nothing_along() -> None:
    """
    Also when the message is on its way.
    """

    async def go() -> None:
        async with layers() as (here, there):
            for wait in (True, False):
                receiving = asyncio.ensure_future(there.receive("work"))
                await settle()
                await here.send("work", {"number": 1})
                if wait:
                    receiving.cancel()
                await settle()
                if wait:
                    assert receiving.cancelled()
                    assert await here.receive("work") == {"number": 1}
                else:
                    assert await receiving == {"number": 1}

    run(go())


def test_many_receivers_and_senders() -> None:
    """
    Some of whom give up: none of their messages is lost or doubled.
    """

    async def go() -> None:
        got: Counter[int] = Counter()

        async def work(layer: ChannelLayer) -> None:
            while True:
                try:
                    message = await asyncio.wait_for(layer.receive("work"), 0.001)
                except asyncio.TimeoutError:
                    continue
                got[message["number"]] += 1

        async with layers(3, capacity=1000) as made:
            workers = [asyncio.ensure_future(work(layer)) for layer in made for _ in range(3)]
            for number in range(300):
                await made[number % 3].send("work", {"number": number})
                if number % 10 == 0:
                    await asyncio.sleep(0.001)
            # wait_for() itself may drop what came in the moment when it gave up.
            while len(got) < 290:  # noqa: ASYNC110 (nobody says when)
                await asyncio.sleep(0.01)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        assert set(got.values()) == {1}

    run(go())


def test_a_new_worker_hears_what_it_must_know() -> None:
    """
    Who waits, and which common channels are in groups.
    """

    async def go() -> None:
        async with layers() as (one, two):
            receiving = asyncio.ensure_future(one.receive("work"))
            await two.group_add("room", "board")
            await settle()
            async with layers(1) as (newcomer,):
                await newcomer.send("nothing", {})
                await settle()
                await newcomer.send("work", {"number": 1})
                assert await receiving == {"number": 1}
                await newcomer.group_send("room", {"number": 2})
                assert await one.receive("board") == {"number": 2}
                await one.group_discard("room", "board")
                await settle()
                await newcomer.group_send("room", {"number": 3})
                assert await is_empty(two, "board")

    run(go())


def test_a_burst_of_other_workers_is_longer_than_a_mailbox() -> None:
    """
    A consumer that reads gets all of it, in order.
    """

    async def go() -> None:
        async with layers(capacity=10) as (here, there):
            channel = await there.new_channel()
            await there.group_add("room", channel)
            for number in range(500):
                await here.group_send("room", {"number": number})
                if number % 2:
                    await here.send(channel, {"number": number + 0.5})
            await settle()
            numbers = [(await there.receive(channel))["number"] for _ in range(750)]
            assert numbers == sorted(numbers)
            assert await is_empty(there, channel)

    run(go())


def test_a_consumer_that_does_not_read_loses_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    And holds nobody else up for longer than a moment.
    """
    monkeypatch.setattr(inbox, "PATIENCE_SECONDS", 0.01)

    async def go() -> None:
        async with layers(capacity=5) as (here, there):
            stuck, reading = await there.new_channel(), await there.new_channel()
            await there.group_add("room", stuck)
            await there.group_add("room", reading)
            for number in range(50):
                await here.group_send("room", {"number": number})
            assert [(await there.receive(reading))["number"] for _ in range(50)] == [*range(50)]
            assert [(await there.receive(stuck))["number"] for _ in range(5)] == [*range(5)]
            await here.group_send("room", {"number": 50})
            assert await there.receive(stuck) == {"number": 50}
            assert there.lost == 45
            assert here.lost == 0

    with caplog.at_level("INFO"):
        run(go())
    assert "1 of 2 channels over capacity in group room" in caplog.text


def test_messages_and_members_expire() -> None:
    """
    Each after its own time.
    """

    async def go() -> None:
        async with layers(expiry=0.5, group_expiry=0.5) as (here, there):
            channel = await there.new_channel()
            await there.group_add("room", channel)
            await here.group_send("room", {"number": 1})
            await here.send("work", {"number": 2})
            await settle()
            assert there.channels
            await asyncio.sleep(0.51)
            assert await is_empty(there, channel)
            assert await is_empty(here, "work")
            assert not there.channels
            assert not here.channels
            await here.group_send("room", {"number": 3})
            assert await is_empty(there, channel)

    run(go())


def test_flush_empties_all() -> None:
    """
    In every worker.
    """

    async def go() -> None:
        async with layers() as (here, there):
            channel = await there.new_channel()
            await there.group_add("room", channel)
            await there.send(channel, {})
            await there.send("work", {})
            await here.flush()
            await settle()
            assert not there.channels
            await here.group_send("room", {})
            assert await is_empty(there, channel)

    run(go())


def test_threads_and_loops() -> None:
    """
    A view in a thread sends to a consumer; each may be in a loop of its own.
    """

    async def go() -> None:
        async with layers() as (here, there):
            channel = await there.new_channel()
            await there.group_add("room", channel)
            receiving = asyncio.ensure_future(there.receive(channel))
            await settle()

            def view() -> None:
                async_to_sync(there.group_send)("room", {"number": 1})
                async_to_sync(here.group_send)("room", {"number": 2})

            thread = threading.Thread(target=view)
            thread.start()
            assert await receiving == {"number": 1}
            assert await there.receive(channel) == {"number": 2}
            thread.join()

    run(go())


def test_bad_input(caplog: pytest.LogCaptureFixture) -> None:
    """
    Each is one clear error, and nothing happens.
    """

    async def go() -> None:
        async with layers(channel_capacity={"tiny": 1}) as (here, there):
            with pytest.raises(TypeError, match="None, numbers, text, bytes, lists and dicts"):
                await here.send("work", {"when": object()})
            with pytest.raises(TypeError, match="valid unicode"):
                await here.group_add("no room!", "work")
            await here.send("tiny", {})
            with pytest.raises(ChannelFull):
                await here.send("tiny", {})
            for topic in ("stickyd.channels.all", "stickyd.channels.group.room"):
                for data in (b"", b"\xff", b"want\n", b"unknown a b\n", b"group a", b"send\nx"):
                    bus.publish(topic, data)
            await there.group_add("room", channel := await there.new_channel())
            for data in (b"", b"\xff", b"want\n", b"group a"):
                bus.publish("stickyd.channels.group.room", data)
            await here.group_send("room", {"number": 1})
            assert await there.receive(channel) == {"number": 1}

    run(go())
    assert "no layer's" in caplog.text
    assert "Traceback" not in caplog.text
