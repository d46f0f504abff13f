"""
Placement by load: a newcomer goes where there is least to do, and is remembered.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from zope.interface import implementer

from stickyd.errors import SettingError
from stickyd.interfaces import IPlacement
from stickyd.placement.rendezvous import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MOST_KEYS: Final = 65_536
"""
How many clients are remembered: about 15 MB.
"""

REMEMBERED_SECONDS: Final = 3600.0
"""
How long a client is remembered after its last connection.
"""

Snapshot: TypeAlias = "list[tuple[str, int, float]]"
"""
What is remembered, as JSON can hold it: for each key its hexadecimal digits, its slot
and the seconds that it is remembered for yet; the key that was longest unused is first.
"""


@implementer(IPlacement)
class LeastLoaded:
    """
    The ``least`` placement.

    Unlike the others it is not a function of the key alone: it keeps a table.  Only one
    process can use it, and the table must travel with a reload or an upgrade
    (:meth:`snapshot`), or clients come back as newcomers.

    The table is bounded in size and in time.  Both bounds fall on the key that was
    longest unused, so a flood of new keys can push out others, but cannot grow it.  Keys that
    are named by workers (:meth:`remember`) push out those of the same slot.

    When a slot goes, the workers must know where its clients are from now on, as their
    sessions go there.  So a client of such a slot need not become a newcomer
    (:meth:`resize`): it can have another slot, which follows from its key and the
    available slots (:meth:`place`).
    """

    def __init__(
        self,
        slots: int,
        loads: Callable[[], Sequence[int]],
        clock: Callable[[], float],
        available: Callable[[int], bool],
        most_keys: int = MOST_KEYS,
        seconds: float = REMEMBERED_SECONDS,
    ) -> None:
        """
        Start with an empty table.

        :param slots: at least 1.
        :param loads: gives each slot's load, in any unit, when a newcomer comes.  It should
            count connections that are on their way to a worker too: a figure that lags
            sends every newcomer to the same slot until it is renewed.
        :param clock: gives the time in seconds, and never goes back.
        :param available: whether a slot can be given clients: not if it has failed.  If
            none can, the loads alone decide.
        :param most_keys: how many keys to remember, at least 1.
        :param seconds: how long to remember a key after its last use, more than 0.
        :raises SettingError: if a number is outside its range.
        """
        _require_slots(slots)
        if most_keys < 1:
            raise SettingError(f"least placement remembers 1 or more clients, not {most_keys}")
        if not seconds > 0:
            raise SettingError(f"least placement remembers clients more than 0 s, not {seconds} s")
        self.slots = slots
        self._loads = loads
        self._clock = clock
        self._available = available
        self._most_keys = most_keys
        self._seconds = seconds
        # Key to slot and expiry, longest unused first; so the expiries ascend.
        self._table: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        # The keys of each slot, longest unused first.
        self._keys_of: defaultdict[int, OrderedDict[bytes, None]] = defaultdict(OrderedDict)
        self._turn = 0

    def __len__(self) -> int:
        return len(self._table)

    def slot_of(self, key: bytes) -> int:
        """
        Give the slot that the key is remembered on, or choose and remember one.

        A key whose slot is not available moves to another for good.
        """
        now = self._clock()
        slot, expiry = self._table.get(key, (-1, now))
        if expiry <= now or not self._available(slot):
            slot = self.least_loaded()
        self._put(key, slot, now + self._seconds)
        self._forget(now)
        return slot

    def known(self, key: bytes) -> int | None:
        """
        Give the slot that the key is remembered on, for which this is a use of it.

        :return: None if it is not remembered, or the slot is not available.
        """
        slot = self.peek(key)
        if slot is not None:
            self.remember(key, slot)
        return slot

    def peek(self, key: bytes) -> int | None:
        """
        Give what :meth:`known` would, without using the key.
        """
        now = self._clock()
        slot, expiry = self._table.get(key, (-1, now))
        return slot if expiry > now and self._available(slot) else None

    def remember(self, key: bytes, slot: int) -> None:
        """
        Remember a key on a slot that somebody else chose.  A slot that does not exist is
        ignored.

        If there are too many, the longest unused one of this slot makes room, or if the slot
        has no more than its share, of the slot that has most: whoever names keys without end
        pushes out their own.
        """
        if 0 <= slot < self.slots:
            now = self._clock()
            self._put(key, slot, now + self._seconds)
            if len(self._table) > self._most_keys:
                if len(self._keys_of[slot]) <= self._most_keys // self.slots:
                    slot = max(self._keys_of, key=lambda each: len(self._keys_of[each]))
                self._drop(next(iter(self._keys_of[slot])))
            self._forget(now)

    def homes(self, most: int) -> list[int]:
        """
        Give the slots of so many remembered keys at most, those of the most recently used first.
        """
        latest = islice(reversed(self._table.values()), most)
        return [slot for slot, _ in latest]

    def least_loaded(self) -> int:
        """
        Choose the slot of a newcomer, without remembering anything.

        Of slots with equal load the next in turn is taken.
        """
        chosen = self.next_slot()
        self._turn = chosen + 1
        return chosen

    def next_slot(self) -> int:
        """
        Give what :meth:`least_loaded` would choose, without taking the turn.
        """
        loads = self._loads()
        candidates = [slot for slot in range(self.slots) if self._available(slot)]
        return min(
            candidates or range(self.slots),
            key=lambda slot: (loads[slot], (slot - self._turn) % self.slots),
        )

    def resize(self, slots: int) -> None:
        """
        Change the number of slots, and forget the keys of those that are removed.

        :param slots: at least 1.
        :raises SettingError: if there is none.
        """
        _require_slots(slots)
        self.slots = slots
        for key in [key for key, (slot, _) in self._table.items() if slot >= slots]:
            self._drop(key)

    def place(self, slots: int, available: Sequence[int]) -> LeastLoaded:
        """
        Change the slots, and move the clients of those that are not available any more to
        others, for good: where :class:`Staying` has the workers send their sessions.

        :param slots: how many there are, at least 1.
        :param available: those that clients may be placed on, at least one, ascending.
        :return: this placement.
        :raises SettingError: if there is no slot.
        """
        _require_slots(slots)
        self.slots = slots
        stays = frozenset(available)
        other = failover_of(available)
        moving = {slot for slot in self._keys_of if slot not in stays}
        if moving:
            # All anew, so that those of each slot stay in the order of their use.
            table, self._table = self._table, OrderedDict()
            self._keys_of.clear()
            for key, (slot, expiry) in table.items():
                self._put(key, other(key) if slot in moving else slot, expiry)
        return self

    def snapshot(self) -> Snapshot:
        """
        Give what is remembered, to be kept over a reload or an upgrade.
        """
        now = self._clock()
        self._forget(now)
        return [(key.hex(), slot, expiry - now) for key, (slot, expiry) in self._table.items()]

    def restore(self, snapshot: Iterable[Sequence[str | int | float]]) -> None:
        """
        Replace the table by one that was given by :meth:`snapshot`.

        What the present settings have no room, time or slot for is left out.
        """
        now = self._clock()
        self._table.clear()
        self._keys_of.clear()
        for digits, slot, seconds in snapshot:
            if int(slot) < self.slots:
                expiry = now + min(float(seconds), self._seconds)
                self._put(bytes.fromhex(str(digits)), int(slot), expiry)
        self._forget(now)

    def _put(self, key: bytes, slot: int, expiry: float) -> None:
        before = self._table.get(key)
        if before is not None and before[0] != slot:
            self._drop(key)
        self._table[key] = slot, expiry
        self._table.move_to_end(key)
        keys = self._keys_of[slot]
        keys[key] = None
        keys.move_to_end(key)

    def _drop(self, key: bytes) -> None:
        slot, _ = self._table.pop(key)
        keys = self._keys_of[slot]
        del keys[key]
        if not keys:
            del self._keys_of[slot]

    def _forget(self, now: float) -> None:
        """
        Drop what is out of date, and what is too much, from the longest unused end.
        """
        while self._table:
            key, (_slot, expiry) = next(iter(self._table.items()))
            if expiry > now and len(self._table) <= self._most_keys:
                return
            self._drop(key)


def failover_of(available: Sequence[int]) -> Callable[[bytes], int]:
    """
    Give the function from the key of a client whose slot has gone to its new slot.
    """
    choose = Rendezvous(len(available)).slot_of
    return lambda key: available[choose(key)]


@implementer(IPlacement)
class Staying:
    """
    The ``least`` placement as far as a worker can know it: who is here belongs here, as
    long as the worker's slot is available, and else to another one.

    :ivar slots: how many slots there are.
    """

    def __init__(self, slots: int, available: Sequence[int], own: int) -> None:
        """
        :param available: the available slots, at least one, ascending.
        :param own: the worker's slot.
        """
        self.slots = slots
        self._own = own
        self._move = None if own in available else failover_of(available)

    def slot_of(self, key: bytes) -> int:
        """
        Give the slot of a client that this worker has; see :class:`IPlacement`.
        """
        return self._own if self._move is None else self._move(key)


def _require_slots(slots: int) -> None:
    if slots < 1:
        raise SettingError(f"{slots} slots: least placement takes 1 or more")
