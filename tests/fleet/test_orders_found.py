"""
Orders of events that the model of the fleet has found to lose somebody.
"""

from __future__ import annotations

from tests.fleet.test_fleet_model import FleetModel


def test_reinstated_worker_that_dies_leaves_its_connections_to_the_slot() -> None:
    """
    A relieved worker has its slot again, and dies before it has taken what it was given.
    """
    model = FleetModel()
    model.start(spares=1, mode="client", scene="switch", slots=1)
    model.primary_hears(("worker", 11))
    model.primary_hears(("worker", 0))
    model.worker_dies(("leaving", 0), noticed=False)
    model.everything_runs()
    model.everything_runs()
    model.operator_changes("reload", 0)
    for _ in range(13):
        model.everything_runs()
    model.time_passes(10.0)
    for _ in range(2):
        model.worker_turns(("worker", 0), starved=False)
    for _ in range(2):
        model.everything_runs()
        model.worker_turns(("worker", 0), starved=False)
    model.operator_changes("go_back", 0)
    model.client_asks_again(0)
    model.worker_dies(("successor", 0), noticed=True)
    model.teardown()
