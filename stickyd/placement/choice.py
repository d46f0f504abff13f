"""
What ``--placement`` chooses between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyd.placement.modulo import Modulo
from stickyd.placement.rendezvous import Rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable

    from stickyd.interfaces import IPlacement

#: What ``--placement`` chooses between: makes a placement over a number of slots.
PLACEMENTS: dict[str, Callable[[int], IPlacement]] = {"rendezvous": Rendezvous, "modulo": Modulo}
