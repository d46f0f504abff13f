"""
What ``--placement`` chooses between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.placement.failover import Failover
from stickyd.placement.least import Staying
from stickyd.placement.modulo import Modulo
from stickyd.placement.rendezvous import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stickyd.interfaces import IPlacement

LEAST = "least"

#: What ``--placement`` chooses between, besides :data:`LEAST`, which needs to be told the
#: loads: makes a placement over a number of slots.
PLACEMENTS: dict[str, Callable[[int], IPlacement]] = {"rendezvous": Rendezvous, "modulo": Modulo}


def placement_in_worker(name: str, slots: int, available: Sequence[int], own: int) -> IPlacement:
    """
    Make the placement of ``--placement``, as far as the worker in slot ``own`` can know it.

    :param slots: how many slots there are.
    :param available: those of them that clients may be placed on, at least one, ascending.
    """
    if name == LEAST:
        return Staying(slots, available, own)
    return Failover(PLACEMENTS[name], slots, available)
