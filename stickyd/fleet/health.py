"""
Whether the server is alive, and whether clients should come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stickyd.fleet.fleet import Fleet


@dataclass(frozen=True)
class Check:
    """
    One thing that is looked at.

    :ivar name: what it is called.
    :ivar passes: whether it is as it should be.
    :ivar says: how it is, for people.
    """

    name: str
    passes: bool
    says: str


@dataclass(frozen=True)
class Health:
    """
    How a server is, for those who send it clients.

    :ivar checks: what being ready depends on.
    :ivar leaves: whether it goes on only until clients have gone elsewhere.
    :ivar share: how much of what it should have is there to serve, 0.0 to 1.0.
    """

    checks: list[Check]
    leaves: bool
    share: float

    @property
    def ready(self) -> bool:
        """
        Whether clients should come.
        """
        return all(check.passes for check in self.checks)

    @property
    def agent_line(self) -> str:
        """
        What HAProxy's agent-check is told: HAProxy's configuration manual, ``agent-check``.
        """
        if self.leaves:
            return f"drain #{self.checks[0].says}"
        if not self.ready:
            said = "; ".join(check.says for check in self.checks if not check.passes)
            return f"down #{said}"
        # A weight of 0 would be a drain.
        return f"up ready {max(1, round(100 * self.share))}%"


def health_of(fleet: Fleet, leaves: str, least_slots: int, needs_store: bool) -> Health:
    """
    Look at a fleet.

    :param leaves: why clients should go elsewhere although it serves; empty if they need not.
    :param least_slots: how many slots must serve; 0 for half of them.
    :param needs_store: whether the workers must reach their store of sessions.
    """
    table = fleet.table
    placed = table.members[: table.placed]
    serving = sum(m.slot.worker is not None and m.slot.available for m in placed)
    least = min(least_slots or (len(placed) + 1) // 2, len(placed)) or 1
    if not fleet.running:
        stays = "it stops" if fleet.has_served else "it starts"
    else:
        stays = leaves or "it stays"
    checks = [
        Check("staying", fleet.running and not leaves, stays),
        Check(
            "slots",
            serving >= least,
            f"{serving} of {len(placed)} slots serve, {least} must",
        ),
    ]
    if needs_store:
        away = [
            worker.pid for worker in table.workers() if worker.figures.told.get("store_away", 0.0)
        ]
        says = f"workers {', '.join(map(str, away))} do not reach it" if away else "it is there"
        checks.append(Check("store", not away, f"the store of sessions: {says}"))
    stops = not fleet.running and fleet.has_served
    return Health(checks, bool(leaves) or stops, serving / len(placed) if placed else 0.0)
