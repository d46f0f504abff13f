"""
The slots of a fleet as data.
"""

from __future__ import annotations

from tests.fleet.test_fleet import Rig


def test_table_knows_who_may_get_clients() -> None:
    """
    A slot that there is not, has failed or is drained gets none.
    """
    rig = Rig(3)
    rig.ready(0, 1)
    rig.fail(2)
    rig.fleet.slots[1].drain()
    assert [rig.fleet.table.is_available(index) for index in range(-1, 5)] == [
        *(False, True, False, False),
        *(False, False),
    ]
    rig.fleet.slots[1].undrain()
    assert rig.fleet.table.available_slots() == [0, 1]


def test_last_deaths_are_told_with_the_last_words() -> None:
    """
    Of each slot the last worker that died by itself; what it printed last may come after that.
    """
    rig = Rig(2, most_crashes=9)
    for slot in (0, 1):
        rig.fail(slot)
    rig.spawner.workers[1].last_words = "ValueError: no such table"
    assert rig.fleet.table.last_deaths == [
        "The last one (slot 0) exited with code 3",
        "The last one (slot 1) exited with code 3. Its last words: ValueError: no such table",
    ]
