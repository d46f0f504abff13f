"""
The bus through any order of what can happen to it, beside what should come of it.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.messaging.fleet import Bus

CHANNELS = ("a", "b")
WORKERS = st.integers(0, 3)

#: What happens: to which worker, and on which channel.
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["publish", "publish", "publish", "subscribe", "unsubscribe", "step", "upgrade", "die"]
        ),
        WORKERS,
        st.sampled_from(CHANNELS),
        st.sampled_from([1, 1, 1, 300, 70_000]),
    ),
    max_size=40,
)


class Model:
    """
    What each worker should hear of each publisher.

    :ivar due: the messages, by who hears them.
    """

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.wants: list[dict[str, object]] = [{} for _ in bus.members]
        self.living = set(range(len(bus.members)))
        self.due: list[list[bytes]] = [[] for _ in bus.members]
        self.number = 0

    def act(self, what: str, who: int, channel: str, size: int) -> None:
        """
        Have it happen.
        """
        bus = self.bus
        if what == "step":
            bus.step()
        elif what == "upgrade":
            bus.upgrade()
        elif who not in self.living:
            return
        elif what == "publish":
            self.number += 1
            data = b"%d:%06d" % (who, self.number) + bytes(size)
            bus.members[who].desk.publish(channel, data)
            for other in self.living:
                if channel in self.wants[other]:
                    self.due[other].append(data)
        elif what == "subscribe" and channel not in self.wants[who]:
            # Who was told of what is under way must not depend on the moment.
            bus.settle()
            self.wants[who][channel] = bus.members[who].hear(channel)
            bus.settle()
        elif what == "unsubscribe" and channel in self.wants[who]:
            bus.settle()
            stop = self.wants[who].pop(channel)
            assert callable(stop)
            stop()
            bus.settle()
        elif what == "die" and len(self.living) > 2:
            bus.settle()
            self.living.remove(who)
            bus.members[who].line.close("dead")

    def check(self) -> None:
        """
        Compare, when all has arrived.
        """
        self.bus.settle()
        for who in self.living:
            member = self.bus.members[who]
            heard = [data for channel in CHANNELS for data in member.seen.get(channel, ())]
            assert sorted(heard) == sorted(self.due[who])
            for publisher in range(len(self.bus.members)):
                for channel in CHANNELS:
                    its = [
                        data
                        for data in member.seen.get(channel, ())
                        if data.startswith(b"%d:" % publisher)
                    ]
                    assert its == sorted(its)
        figures = self.bus.hub.figures
        assert (figures.queued, figures.lost) == (0, 0)


@given(EVENTS)
@settings(max_examples=200)
def test_everybody_hears_what_is_due(events: list[tuple[str, int, str, int]]) -> None:
    """
    Once each, in the order of each publisher, whoever dies and whenever the code is replaced.
    """
    bus = Bus(4)
    try:
        model = Model(bus)
        for event in events:
            model.act(*event)
        model.check()
    finally:
        bus.close()
