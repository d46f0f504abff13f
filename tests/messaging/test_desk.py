"""
The bus as applications use it, where no worker runs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import Deferred

from stickyd import bus as public
from stickyd.errors import BusClosed
from stickyd.messaging.desk import BusDesk
from tests.messaging.fleet import Bus

if TYPE_CHECKING:
    from stickyd.messaging.message import Message


@pytest.fixture
def desk() -> BusDesk:
    """
    The bus of a process.
    """
    return BusDesk()


def test_public_door_leads_to_one_bus() -> None:
    """
    Whoever imports it is on the same one, and JSON goes both ways.
    """
    seen: list[Any] = []
    stop = public.subscribe("news", lambda message: seen.append((message.channel, message.json())))
    public.publish_json("news", {"a": [1, "ü", None]})
    public.sync().wait()
    stop()
    stop()
    public.publish("news", b"later")
    assert seen == [("news", {"a": [1, "ü", None]})]
    with pytest.raises(TypeError):
        public.publish_json("news", object())


def test_delivered_before_publish_returns_and_in_order(desk: BusDesk) -> None:
    """
    Also when a subscriber publishes, which is no recursion.
    """
    seen: list[bytes] = []

    def echo(message: Message) -> None:
        seen.append(message.data)
        if len(message.data) < 3000:
            desk.publish("news", message.data + b"x")

    desk.subscribe("news", echo)
    desk.subscribe("news", lambda message: seen.append(b"second" + message.data))
    desk.publish("news", b"")
    assert seen[:4] == [b"", b"second", b"x", b"secondx"]
    assert len(seen) == 2 * 3001


def test_failing_subscriber_is_logged_and_the_others_served(
    desk: BusDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """
    One's mistake is not the others'.
    """
    seen: list[bytes] = []

    def fail(message: Message) -> None:
        raise RuntimeError("mine")

    desk.subscribe("news", fail)
    desk.subscribe("news", lambda message: seen.append(message.data))
    desk.publish("news", b"1")
    assert seen == [b"1"]


def test_interrupted_delivery_is_gone_on_with(desk: BusDesk) -> None:
    """
    Ctrl-C in a subscriber does not silence the bus for good.
    """
    seen: list[bytes] = []

    def interrupt(message: Message) -> None:
        seen.append(message.data)
        if message.data == b"1":
            desk.publish("news", b"2")
            raise KeyboardInterrupt

    desk.subscribe("news", interrupt)
    with pytest.raises(KeyboardInterrupt):
        desk.publish("news", b"1")
    desk.publish("news", b"3")
    assert seen == [b"1", b"2", b"3"]


def test_unsubscribed_within_a_delivery_gets_no_more(desk: BusDesk) -> None:
    """
    Not even the message that is being delivered.
    """
    seen: list[bytes] = []
    desk.subscribe("news", lambda message: stop())
    stop = desk.subscribe("news", lambda message: seen.append(message.data))
    desk.publish("news", b"1")
    assert seen == []


def test_listen_in_asyncio(desk: BusDesk) -> None:
    """
    From the moment of the call; messages of another thread wake the loop; a break ends it.
    """

    def publish(*messages: bytes) -> None:
        for data in messages:
            desk.publish("news", data)

    async def run() -> list[bytes]:
        listening = desk.listen("news")
        desk.publish("news", b"0")
        thread = threading.Thread(target=publish, args=(b"1", b"2"))
        asyncio.get_running_loop().call_later(0, thread.start)
        got = []
        async for message in listening:
            got.append(message.data)
            if len(got) == 3:
                break
        del listening
        thread.join()
        async with desk.listen("news") as other:
            desk.publish("news", b"3")
            got.append((await other.__anext__()).data)
        with pytest.raises(StopAsyncIteration):
            await other.__anext__()
        return got

    assert asyncio.run(run()) == [b"0", b"1", b"2", b"3"]
    gc.collect()
    desk.publish("news", b"nobody hears")
    assert not desk._channels


def test_listening_that_is_cancelled_loses_nothing(desk: BusDesk) -> None:
    """
    What comes later is had by the next one who asks.
    """

    async def run() -> bytes:
        listening = desk.listen("news")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(listening.__anext__(), 0.01)
        desk.publish("news", b"1")
        return (await listening.__anext__()).data

    assert asyncio.run(run()) == b"1"


def test_subscriber_is_called_in_its_own_loop(desk: BusDesk) -> None:
    """
    Whatever thread publishes.
    """

    async def run() -> tuple[int, bytes]:
        heard: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        desk.subscribe("news", lambda m: heard.set_result((threading.get_ident(), m.data)))
        thread = threading.Thread(target=desk.publish, args=("news", b"1"))
        thread.start()
        outcome = await asyncio.wait_for(heard, 10)
        thread.join()
        return outcome

    assert asyncio.run(run()) == (threading.get_ident(), b"1")
    desk.publish("news", b"the loop is closed")


def test_listen_in_twisted(desk: BusDesk) -> None:
    """
    In a coroutine that a Deferred runs.
    """
    got: list[bytes] = []

    async def run() -> None:
        async for message in desk.listen("news"):
            got.append(message.data)
            if message.data == b"end":
                break

    done = Deferred.fromCoroutine(run())
    for data in (b"1", b"2", b"end"):
        desk.publish("news", data)
    assert done.called
    assert got == [b"1", b"2", b"end"]


def test_iterate_in_a_thread(desk: BusDesk) -> None:
    """
    It waits, gives None when nothing comes, and ends when it is closed.
    """
    got: list[bytes | None] = []
    waiting = desk.iterate("news", timeout_seconds=0.01)
    quiet = threading.Event()

    def run() -> None:
        for message in waiting:
            got.append(None if message is None else message.data)
            quiet.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert quiet.wait(10)
    desk.publish("news", b"1")
    desk.publish("news", b"2")
    while b"2" not in got:
        assert thread.is_alive()
        quiet.wait(0.01)
    waiting.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [data for data in got if data] == [b"1", b"2"]
    assert got[0] is None
    assert desk.iterate("other").get(0) is None


def test_listener_that_is_too_slow_loses_and_counts(desk: BusDesk) -> None:
    """
    The others hear all.
    """
    seen: list[bytes] = []
    slow = desk.iterate("news", most_messages=10)
    desk.subscribe("news", lambda message: seen.append(message.data))
    for number in range(25):
        desk.publish("news", b"%d" % number)
    assert slow.lost == 15
    assert [message.data for message in iter(lambda: slow.get(0), None)] == seen[:10]
    assert len(seen) == 25


def test_threads_keep_their_order_in_a_worker(bus: Bus) -> None:
    """
    What each thread publishes arrives in its order, at the worker's own subscribers too.
    """
    one, two, _ = bus.members
    one.hear("news")
    two.hear("news")
    bus.settle()

    def publish(name: bytes) -> None:
        for number in range(300):
            one.desk.publish("news", name + b"%03d" % number)

    threads = [threading.Thread(target=publish, args=(name,)) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bus.settle()
    assert one.seen["news"] == two.seen["news"]
    for name in (b"a", b"b", b"c"):
        its = [data for data in one.seen["news"] if data.startswith(name)]
        assert its == sorted(its)
        assert len(its) == 300


def test_end_of_the_bus_is_told(bus: Bus) -> None:
    """
    Whoever waits goes on, and whoever publishes later hears why it cannot.
    """
    desk = bus.members[0].desk
    waiting = desk.iterate("news")
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.extend(waiting))
    thread.start()
    desk.close("this worker has ended")
    bus.members[0].line.close("this worker has ended")
    thread.join(10)
    assert got == []
    for act in (
        lambda: desk.publish("news", b"1"),
        lambda: desk.subscribe("news", print),
        lambda: desk.listen("news"),
        lambda: desk.sync().wait(),
    ):
        with pytest.raises(BusClosed, match="this worker has ended"):
            act()


def test_child_of_a_worker_is_not_on_its_bus(bus: Bus) -> None:
    """
    It would garble the stream of the worker; it hears so.
    """
    one, two, _ = bus.members
    two.hear("news")
    bus.settle()
    child = os.fork()
    if not child:
        try:
            one.desk.publish("news", b"child")
        except BusClosed as problem:
            os._exit(42 if "forked by a stickyd worker" in str(problem) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 42
    one.desk.publish("news", b"parent")
    bus.settle()
    assert two.seen == {"news": [b"parent"]}
