"""
Waiting until workers that were relieved have left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from stickyd.operate.counted import counted

if TYPE_CHECKING:
    from collections.abc import Collection

    from stickyd.operate.command import IAsker
    from stickyd.operate.primary import Primary

#: Seconds between two looks.
LOOK_SECONDS = 0.1

#: Seconds between two lines about a worker of which nothing has changed but the time.
TELL_SECONDS = 5.0


def relieved(primary: Primary) -> dict[int, str]:
    """
    The workers that finish what they have: what is to be told of each, by pid.
    """
    told = {}
    for member in primary.fleet.table.all_members():
        workers = member.workers
        going = list(workers.leaving)
        if workers.stopping:
            going += [each for each in (workers.worker, workers.successor) if each is not None]
        for worker in going:
            left = counted(worker.load, "connection")
            told[worker.pid] = f"slot {member.slot.index}: worker {worker.pid} has {left} left"
    return told


def _seconds_left(primary: Primary, pid: int) -> float | None:
    for worker in primary.fleet.table.workers():
        if worker.pid == pid:
            return worker.seconds_left
    return None


async def wait_for_departures(
    primary: Primary, asker: IAsker, before: Collection[int] = ()
) -> None:
    """
    Wait until those have left that finish now, or until nobody wants to hear it any more.

    :param before: the pids of those that did so before; they are not waited for.
    """
    waited_for = {pid for pid in relieved(primary) if pid not in before}
    said: dict[int, tuple[str, float]] = {}
    while asker.is_open:
        there = relieved(primary)
        for pid in sorted(waited_for - there.keys()):
            asker.step(f"worker {pid} has left", pid=pid, left=True)
        waited_for &= there.keys()
        if not waited_for:
            return
        now = primary.clock.seconds()
        for pid in sorted(waited_for):
            text, at = said.get(pid, ("", float("-inf")))
            if text != there[pid] or now - at >= TELL_SECONDS:
                said[pid] = there[pid], now
                left = _seconds_left(primary, pid)
                most = "" if left is None else f", at most {left:.0f} s more"
                asker.step(there[pid] + most, pid=pid, seconds_left=left)
        await deferLater(primary.clock, LOOK_SECONDS)
