"""
Django Channels' layer, over the bus.

Theory of operation.  A channel that :meth:`ChannelLayer.new_channel` has named belongs to the
process that made it: its name has that process's *address* in it, a channel of the bus on which
messages to it are sent.  Its groups are known to that process alone, which subscribes to the bus
for each group that has a member there.  So a message to a group is sent once to each worker that
has members, however many they are, and no other worker hears of it.

A channel with a name of its own may be received from in every process, and each message must reach
one of them.  It stays with whoever has sent it until somebody wants it: a coroutine that waits has
its process tell all others, and one of those that have a message, or get one, sends it there.  What
such a channel is in the groups of is known to all processes, and who sends to the group sends to
it.
"""
# mypy: disable-error-code="misc"
# (Channels has no annotations of its own.)

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

import msgpack
from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer

from stickyd import bus
from stickyd.adapters.channel_groups import Members
from stickyd.adapters.channel_wants import Wants
from stickyd.adapters.channel_wire import Notice, Said, read, write
from stickyd.adapters.inbox import Delivery, Inbox
from stickyd.adapters.losses import Losses
from stickyd.adapters.mailboxes import Mailboxes

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.bus import Message

_log = logging.getLogger("stickyd.channels")

#: What the last part of a channel's name, and of an address, is made of.
_RANDOM_BYTES = 8


class ChannelLayer(BaseChannelLayer):
    """
    A layer that all workers of a stickyd share, and that is one process's own where none runs.

    Messages are what msgpack can write: :obj:`None`, numbers, text, bytes, lists, dicts.  Each
    reaches its channel at most once, those of one sender in their order.
    """

    extensions = ("groups", "flush")

    def __init__(
        self,
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: dict[Any, int] | None = None,
        prefix: str = "stickyd.channels",
    ) -> None:
        """
        :param expiry: how many seconds a message waits for who receives it.
        :param group_expiry: after how many seconds a channel is no longer in a group.
        :param capacity: how many messages wait in a channel; more are refused, and not added by a
            group.
        :param channel_capacity: the same for some channels, by their names or patterns of them.
        :param prefix: of the bus's channels; two layers with the same are one.
        """
        super().__init__(expiry=expiry, capacity=capacity)
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self._prefix = prefix
        self._address = secrets.token_hex(_RANDOM_BYTES)
        self._mailboxes = Mailboxes(expiry, self.get_capacity)
        #: As in Channels' own layer: what waits, by channel.
        self.channels = self._mailboxes.boxes
        self._losses = Losses()
        self._inbox = Inbox(self._mailboxes, self._losses.add)
        self._wants = Wants()
        self._topics: dict[str, Callable[[], object]] = {}
        self._members = Members(group_expiry, self._listen_to, self._do_not_listen_to)
        self._shared_members = Members(group_expiry)
        self._listen(self._topic_of_all, self._take)
        self._listen(self._topic_of(self._address), self._take)
        self._is_known = False

    @property
    def lost(self) -> int:
        """
        How many messages found no room in channels of this process.
        """
        return self._losses.lost

    # What Channels asks for.

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """
        Send to a channel.

        :raises ChannelFull: if it is one of this process, or of nobody yet, and has no room.  What
            has no room in another process is dropped there.
        :raises TypeError: if the message is not plain data.
        """
        assert isinstance(message, dict), "message is not a dict"
        self.require_valid_channel_name(channel)
        self._introduce()
        if not self._post(channel, _pack(message)):
            raise ChannelFull(channel)

    async def receive(self, channel: str) -> dict[str, Any]:
        """
        Take the oldest message of a channel, or wait for one.
        """
        self.require_valid_channel_name(channel)
        address = _address_in(channel)
        if address is not None and address != self._address:
            raise AssertionError(f"{channel} is another process's channel")
        self._introduce()
        data = await self._mailboxes.receive(
            channel,
            lambda more: self._want(channel, more) if address is None else None,
        )
        message: dict[str, Any] = msgpack.unpackb(data, strict_map_key=False)
        return message

    async def new_channel(self, prefix: str = "specific") -> str:
        """
        Name a channel that this process alone receives from.
        """
        return f"{prefix}.{self._address}!{secrets.token_hex(_RANDOM_BYTES)}"

    async def group_add(self, group: str, channel: str) -> None:
        """
        Add a channel to a group.  Whatever is sent to the group from now on, by whatever worker,
        reaches it, if it is one of this process.
        """
        self._check(group, channel)
        self._introduce()
        if _address_in(channel) == self._address:
            self._members.add(group, channel)
        else:
            self._tell(Said.ADD, group, channel)
        await bus.sync()

    async def group_discard(self, group: str, channel: str) -> None:
        """
        Take a channel out of a group.
        """
        self._check(group, channel)
        if _address_in(channel) == self._address:
            self._members.discard(group, channel)
        else:
            self._tell(Said.DISCARD, group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """
        Send to all channels of a group; those that have no room do not get it.

        :raises TypeError: if the message is not plain data.
        """
        assert isinstance(message, dict), "Message is not a dict"
        self.require_valid_group_name(group)
        self._introduce()
        self._mailboxes.sweep()
        data = _pack(message)
        channels = [*self._members.of(group), *self._shared_members.of(group)]
        full = [channel for channel in channels if not self._post(channel, data)]
        if full:
            self._losses.add(f"group {group}", len(full), len(channels))
        bus.publish(self._topic_of_group(group), write(Said.GROUP, self._address, data=data))

    async def flush(self) -> None:
        """
        Forget all messages and groups, in all workers.
        """
        self._forget()
        self._publish_to_all(Said.FLUSH, self._address)

    async def close(self) -> None:
        """
        Hear nothing any more.
        """
        self._forget()
        self._inbox.close()
        while self._topics:
            self._topics.popitem()[1]()

    # What happens to it.

    def _post(self, channel: str, data: bytes) -> bool:
        """
        :return: whether it had room, as far as is known here.
        """
        address = _address_in(channel)
        if address == self._address:
            return self._mailboxes.put(channel, self._mailboxes.letter(data))
        if address is not None:
            bus.publish(self._topic_of(address), write(Said.SEND, channel, data=data))
            return True
        letter = self._mailboxes.letter(data)
        return (
            self._mailboxes.put_if_awaited(channel, letter)
            or self._give(channel, data)
            or self._mailboxes.put(channel, letter)
        )

    def _give(self, channel: str, data: bytes) -> bool:
        """
        Send a message to another process that waits for one.
        """
        address = self._wants.pop(channel)
        if address is None:
            return False
        bus.publish(self._topic_of(address), write(Said.SEND, channel, data=data))
        return True

    def _want(self, channel: str, more: int) -> None:
        said = Said.WANT if more > 0 else Said.UNWANT
        self._publish_to_all(said, self._address, channel)

    def _tell(self, said: Said, group: str, channel: str) -> None:
        """
        Have a channel that is not ours added to a group, or taken out.
        """
        address = _address_in(channel)
        if address is None:
            self._change_members(self._shared_members, said, group, channel)
            self._publish_to_all(said, self._address, group, channel)
        else:
            bus.publish(self._topic_of(address), write(said, self._address, group, channel))

    def _forget(self) -> None:
        self._mailboxes.clear()
        self._members.clear()
        self._shared_members.clear()

    def _introduce(self) -> None:
        """
        Have others tell what we cannot know, once: not before the bus is there.
        """
        if not self._is_known:
            self._is_known = True
            self._publish_to_all(Said.HELLO, self._address)

    # What others say.

    def _take(self, message: Message) -> None:
        """
        Take a notice that was sent to all, or to us alone.
        """
        try:
            notice = read(message.data)
        except ValueError as problem:
            _log.warning("what came on %s is no layer's: %s", message.channel, problem)
            return
        if notice.said is Said.SEND:
            [channel] = notice.words
            self._take_message(channel, notice.data)
        elif notice.words[0] != self._address:
            self._take_change(notice)

    def _take_change(self, notice: Notice) -> None:
        said, (origin, *words) = notice.said, notice.words
        if said is Said.WANT:
            [channel] = words
            letter = self._mailboxes.take(channel)
            self._wants.add(channel, origin)
            if letter is not None:
                self._give(channel, letter.data)
        elif said is Said.UNWANT:
            [channel] = words
            self._wants.remove(channel, origin)
        elif said is Said.HELLO:
            self._greet(origin)
        elif said is Said.FLUSH:
            self._forget()
        elif said in (Said.ADD, Said.DISCARD):
            group, channel = words
            ours = _address_in(channel) == self._address
            self._change_members(
                self._members if ours else self._shared_members, said, group, channel
            )

    def _take_message(self, channel: str, data: bytes) -> None:
        letter = self._mailboxes.letter(data)
        if _address_in(channel) is not None:
            self._inbox.take(Delivery([channel], letter, f"channel {channel}"))
        elif not self._mailboxes.put_if_awaited(channel, letter) and not self._give(channel, data):
            # Nobody waits any more; it was sent to us, so we have it.
            self._mailboxes.put(channel, letter, always=True)

    def _take_of_group(self, message: Message) -> None:
        try:
            notice = read(message.data)
            [origin] = notice.words
        except ValueError as problem:
            _log.warning("what came on %s is no layer's: %s", message.channel, problem)
            return
        if origin == self._address:
            return
        group = message.channel.removeprefix(self._topic_of_group(""))
        members = self._members.of(group)
        letter = self._mailboxes.letter(notice.data)
        self._inbox.take(Delivery(members, letter, f"group {group}"))

    def _greet(self, newcomer: str) -> None:
        """
        Tell a new process what it cannot know.
        """
        topic = self._topic_of(newcomer)
        for channel, waiting in self._mailboxes.waited_for():
            if _address_in(channel) is None:
                for _ in range(waiting):
                    bus.publish(topic, write(Said.WANT, self._address, channel))
        for group, channel in self._shared_members.all():
            bus.publish(topic, write(Said.ADD, self._address, group, channel))

    @staticmethod
    def _change_members(members: Members, said: Said, group: str, channel: str) -> None:
        if said is Said.ADD:
            members.add(group, channel)
        else:
            members.discard(group, channel)

    # The bus.

    @property
    def _topic_of_all(self) -> str:
        return f"{self._prefix}.all"

    def _topic_of(self, address: str) -> str:
        return f"{self._prefix}.at.{address}"

    def _topic_of_group(self, group: str) -> str:
        return f"{self._prefix}.group.{group}"

    def _publish_to_all(self, said: Said, *words: str) -> None:
        bus.publish(self._topic_of_all, write(said, *words))

    def _listen(self, topic: str, take: Callable[[Message], object]) -> None:
        self._topics[topic] = bus.subscribe(topic, take)

    def _listen_to(self, group: str) -> None:
        self._listen(self._topic_of_group(group), self._take_of_group)

    def _do_not_listen_to(self, group: str) -> None:
        stop = self._topics.pop(self._topic_of_group(group), None)
        if stop is not None:
            stop()

    def _check(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)


def _address_in(channel: str) -> str | None:
    """
    The address in the name of a channel, if it is of one process alone.
    """
    known, mark, _ = channel.partition("!")
    return known.rpartition(".")[2] if mark else None


def _pack(message: dict[str, Any]) -> bytes:
    try:
        packed: bytes = msgpack.packb(message)
    except (TypeError, ValueError, OverflowError) as problem:
        raise TypeError(
            "a channel layer's message is of None, numbers, text, bytes, lists and dicts:"
            f" {problem}"
        ) from None
    return packed
