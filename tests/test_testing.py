"""
The shipped fakes keep to their interfaces.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyObject

from stickyd import interfaces, testing
from stickyd.fleet import interfaces as fleet_interfaces
from stickyd.fleet import slot_services
from stickyd.fleet.slot import QueueLimits, Slot

FAKES = [
    (interfaces.IPlacement, lambda: testing.FakePlacement(3)),
    (interfaces.IDestination, testing.FakeDestination),
    (fleet_interfaces.IFleet, testing.FakeFleet),
    (interfaces.IRefusal, testing.FakeRefusal),
    (slot_services.ISteering, testing.FakeSteering),
    (fleet_interfaces.IWorker, lambda: testing.FakeSpawner().spawn(_slot(), lambda: None, print)),
    (interfaces.IHandoffSender, lambda: testing.FakeSpawner().spawn(_slot(), lambda: None, print)),
    (slot_services.ISpawner, testing.FakeSpawner),
    (interfaces.IHandoffReceiver, testing.FakeReceiver),
    (interfaces.IReadiness, lambda: testing.FakeReadiness(Clock())),
    (interfaces.IHost, testing.FakeHost),
]


def _slot() -> Slot:
    return Slot(0, Clock(), QueueLimits(1, 1.0), testing.FakeRefusal())


@pytest.mark.parametrize(("interface", "make"), FAKES)
def test_fake_provides_its_interface(interface: InterfaceClass, make: type) -> None:
    """
    Each fake provides its interface, signatures and attributes included.
    """
    assert verifyObject(interface, make())
