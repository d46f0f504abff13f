"""
Measures what the primary pays for clients that relieved workers keep by their keys: the table's
memory, and the time that a new connection takes more.

Everything is real but for the workers, which take whatever they are given.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
import tracemalloc
from functools import partial
from typing import cast

from twisted.internet.task import Clock

from stickyd.affinity.resolve import Resolver
from stickyd.affinity.spec import parse_affinity
from stickyd.fleet.backoff import Backoff
from stickyd.fleet.fleet import Fleet
from stickyd.fleet.restarts import Restarts
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.fleet.slot_table import SlotTable
from stickyd.fleet.slot_workers import SlotWorkers
from stickyd.fleet.worker_limits import WorkerLimits
from stickyd.handoff.frame import Handoff
from stickyd.placement.failover import Failover
from stickyd.placement.rendezvous import Rendezvous
from stickyd.testing import FakeRefusal, FakeSpawner, FakeSteering, FakeWorker

SLOTS = 4
CONNECTIONS = 20_000


class Taker(FakeWorker):
    """
    A worker that remembers nothing of what it is given.
    """

    def send(self, handoff: Handoff) -> bool:
        return True


def _key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def make_fleet() -> Fleet:
    """
    Four slots whose workers serve.
    """
    clock = Clock()
    table = SlotTable(clock, most_known=1_000_000)
    resolver = Resolver(parse_affinity("ip"), None, table.is_available)
    fleet = Fleet(
        clock,
        table,
        partial(Failover, Rendezvous),
        QueueLimits(100, 1000.0),
        FakeRefusal(),
        resolver,
        FakeSteering(),
    )
    fleet.keep_clients(lambda keeper: None)
    limits = WorkerLimits(5, 300.0, 2)
    restarts = Restarts(clock, Backoff(1.0, 8.0, lambda: 1.0), limits)

    def make_workers(slot: Slot) -> SlotWorkers:
        return SlotWorkers(
            *(slot, clock, FakeSpawner(), restarts, limits, lambda slot: None, lambda slot: None),
            table.keepers,
        )

    fleet.start(SLOTS, make_workers)
    for slot in fleet.slots:
        slot.occupy(Taker(1000 + slot.index, slot, lambda: None, lambda cause: None))
    return fleet


def relieve(fleet: Fleet, known: int) -> int:
    """
    Have each worker be relieved, with an equal share of so many known keys.

    :return: how many bytes the primary needs for them.
    """
    keepers = fleet.table.keepers
    gc.collect()
    tracemalloc.start()
    for slot in fleet.slots:
        worker = cast("FakeWorker", slot.worker)
        keeper = keepers.begin(slot, worker)
        share = range(slot.index, known, SLOTS)
        keepers.learn(keeper.home, [_key(number) for number in share], ())
        slot.hold(None)
        keepers.relieve(worker, 1800.0)
        slot.renew(2)
        slot.occupy(Taker(2000 + slot.index, slot, lambda: None, lambda cause: None))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(keepers) == known
    return size


def microseconds(fleet: Fleet, first: int) -> float:
    """
    How long a connection takes in ``Fleet.deliver``, of so many with keys from ``first`` on.
    """
    handoffs = [Handoff(0, "192.0.2.1", 1, _key(first + n)) for n in range(CONNECTIONS)]
    deliver = fleet.deliver
    begun = time.perf_counter()
    for handoff in handoffs:
        deliver(handoff)
    return (time.perf_counter() - begun) / CONNECTIONS * 1e6


def main(arguments: list[str] | None = None) -> int:
    """
    Measure in turns, and print the medians.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keeping", description=__doc__)
    parser.add_argument("--known", type=int, default=100_000, help="clients that are kept (100000)")
    parser.add_argument("--rounds", type=int, default=15, help="of each kind, in turns (15)")
    options = parser.parse_args(arguments)
    without, with_keepers = make_fleet(), make_fleet()
    size = relieve(with_keepers, options.known)
    taken: dict[str, list[float]] = {"nobody is kept": [], "a newcomer": [], "a known client": []}
    for _ in range(options.rounds):
        taken["nobody is kept"].append(microseconds(without, options.known))
        taken["a newcomer"].append(microseconds(with_keepers, options.known))
        taken["a known client"].append(microseconds(with_keepers, 0))
    base = statistics.median(taken["nobody is kept"])
    print(f"{options.known:,} known keys: {size / 2**20:.1f} MiB in the primary")
    print("| a connection, in the primary's placing | us | more |\n|---|---|---|")
    for name, figures in taken.items():
        median = statistics.median(figures)
        print(f"| {name} | {median:.2f} | {median - base:+.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
