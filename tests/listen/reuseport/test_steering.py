"""
The kernel's steering in step with the fleet: who accepts from which socket.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from stickyd.errors import ListenError, SettingError
from stickyd.fleet.slot import QueueLimits, Slot
from stickyd.fleet.slot_services import ISteering
from stickyd.handoff.frame import Purpose
from stickyd.listen.reuseport.group import BACKLOG, open_group
from stickyd.listen.reuseport.setup import (
    listening_address,
    open_checked_group,
    open_groups,
    require_kernel,
    restore_groups,
)
from stickyd.listen.reuseport.steering import HANDSHAKE_SECONDS, KernelSteering
from stickyd.settings import Settings
from stickyd.testing import FakePlacement, FakeReadiness, FakeRefusal, FakeWorker
from tests.channels import no_descriptor_free
from tests.system.placing import sources_of

pytestmark = pytest.mark.usefixtures("nothing_leaks")


class Rig:
    """
    A steering over a real group, with slots and workers that the test moves.
    """

    def __init__(self, count: int = 3) -> None:
        self.clock = Clock()
        self.readiness = FakeReadiness(self.clock)
        self.group = open_group("127.0.0.1", 0, count, 32, 64)
        self.address = self.group.sockets[0].getsockname()
        self.accepted: list[str] = []
        self.clients: list[socket.socket] = []
        self.workers: list[FakeWorker] = []
        self.steering = KernelSteering(self.clock, self.readiness)
        self.steering.open({"tcp:0": self.group}, self._accept)
        self.slots = [self.slot(index) for index in range(count)]
        self.steering.placed(self.slots, range(count))

    def _accept(self, descriptor: int, host: str, port: int) -> None:
        os.close(descriptor)
        self.accepted.append(host)

    def slot(self, index: int) -> Slot:
        """
        A slot without a worker.
        """
        return Slot(index, self.clock, QueueLimits(9, 9.0), FakeRefusal(), self.steering.occupied)

    def occupy(self, index: int) -> FakeWorker:
        """
        Have a worker begin to serve a slot.
        """
        worker = FakeWorker(1, self.slots[index], lambda: None, lambda _: None)
        self.workers.append(worker)
        self.slots[index].occupy(worker)
        return worker

    def connect(self, slot: int, slots: int) -> str:
        """
        Connect a client of a slot.

        :return: its address.
        """
        (source,) = sources_of(slot, slots, 1)
        client = socket.socket()
        self.clients.append(client)
        client.bind((source, 0))
        client.connect(self.address)
        return source

    def turn(self) -> list[str]:
        """
        Let the primary accept what it does.

        :return: the hosts of whom it accepted.
        """
        self.accepted.clear()
        readers = self.readiness.readers
        for descriptor in select.select(list(readers), [], [], 0)[0]:
            readers[descriptor]()
        return list(self.accepted)

    def entrusted(self, worker: FakeWorker) -> list[int]:
        """
        Take what a worker was entrusted with.

        :return: the numbers of the sockets in the group.
        """
        numbers = []
        for handoff in worker.entrusted:
            assert handoff.purpose == Purpose.LISTENER
            inode = os.fstat(handoff.descriptor).st_ino
            members = (*self.group.sockets, *self.group.retired)
            numbers.append([os.fstat(m.fileno()).st_ino for m in members].index(inode))
            os.close(handoff.descriptor)
        worker.entrusted.clear()
        return numbers

    @property
    def retired(self) -> int:
        """
        How many sockets of removed slots there are.
        """
        return len(self.group.retired)

    def close(self) -> None:
        """
        Close everything.
        """
        for client in self.clients:
            client.close()
        for worker in self.workers:
            self.entrusted(worker)
        self.steering.stop()


@pytest.fixture
def rig() -> Iterator[Rig]:
    """
    Three slots that are available and have no worker yet.
    """
    rig = Rig()
    yield rig
    rig.close()


def test_steering_is_what_the_fleet_expects(rig: Rig) -> None:
    """
    It keeps the contract.
    """
    assert verifyObject(ISteering, rig.steering)


def test_worker_gets_the_socket_of_its_slot_and_the_number_of_slots(rig: Rig) -> None:
    """
    Each worker that begins to serve is entrusted with its slot's socket, once.
    """
    worker = rig.occupy(1)
    assert [(handoff.slot, handoff.unread) for handoff in worker.entrusted] == [(1, b"3")]
    assert rig.entrusted(worker) == [1]
    successor = rig.occupy(1)
    assert rig.entrusted(successor) == [1]
    assert rig.entrusted(worker) == []


def test_clients_of_a_standing_slot_wait_in_the_kernel(rig: Rig) -> None:
    """
    The primary accepts from no socket whose slot is available, be there a worker or not.
    """
    rig.connect(0, 3)
    assert rig.turn() == []
    assert rig.readiness.readers == {}


def test_primary_accepts_for_a_slot_that_does_not_stand(rig: Rig) -> None:
    """
    As soon as a slot fails its clients are accepted, who waited too; and no others.
    """
    waiting = rig.connect(2, 3)
    rig.connect(1, 3)
    rig.slots[2].failed = True
    rig.steering.placed(rig.slots, [0, 1])
    assert rig.turn() == [waiting]
    assert rig.turn() == []


def test_slot_that_stands_again_gets_its_socket_back(rig: Rig) -> None:
    """
    A drained slot's worker is entrusted anew and told to accept, and the primary ceases.
    """
    worker = rig.occupy(2)
    assert rig.entrusted(worker) == [2]
    rig.steering.placed(rig.slots, [0, 1])
    assert worker.accepts == 0
    rig.steering.placed(rig.slots, [0, 1, 2])
    assert rig.entrusted(worker) == [2]
    assert worker.accepts == 1
    rig.connect(2, 3)
    assert rig.turn() == []


def test_worker_of_a_drained_slot_is_not_entrusted(rig: Rig) -> None:
    """
    It may begin to serve; what it accepted would not be its own.
    """
    rig.steering.placed(rig.slots, [0, 1])
    assert rig.entrusted(rig.occupy(2)) == []


def test_added_slot_is_entrusted_when_it_is_placed(rig: Rig) -> None:
    """
    Its worker is ready before; until then the kernel places over the former slots.
    """
    assert rig.steering.prepare(4) == ""
    rig.slots.append(rig.slot(3))
    worker = rig.occupy(3)
    assert worker.entrusted == []
    assert rig.group.slots == 3
    rig.steering.placed(rig.slots, range(4))
    assert rig.group.slots == 4
    assert [handoff.unread for handoff in worker.entrusted] == [b"4"]
    assert rig.entrusted(worker) == [3]


def test_who_waits_at_a_removed_slot_is_accepted(rig: Rig) -> None:
    """
    Its socket is served for as long as a handshake may take, and closed then.
    """
    worker = rig.occupy(2)
    waiting = rig.connect(2, 3)
    rig.steering.placed(rig.slots[:2], [0, 1])
    assert rig.turn() == [waiting]
    rig.clock.advance(HANDSHAKE_SECONDS - 1)
    assert rig.retired == 1
    rig.clock.advance(1)
    assert rig.retired == 0
    assert rig.readiness.readers == {}
    # The worker's copy is dead too, or it would keep its number in the group.
    copy = socket.socket(fileno=worker.entrusted.pop().descriptor)
    with copy, pytest.raises(OSError, match="Invalid argument"):
        copy.accept()


def test_want_of_descriptors_puts_the_closing_off(rig: Rig) -> None:
    """
    Who still waits at a removed slot is not reset because nobody could be accepted.
    """
    rig.steering.placed(rig.slots[:2], [0, 1])
    rig.steering.pause()
    rig.steering.placed(rig.slots[:2], [0, 1])
    loop = next(iter(rig.steering._loops.values()))
    loop.pause()
    rig.steering.groups["tcp:0"].resize(3)
    waiting = rig.connect(2, 3)
    rig.steering.groups["tcp:0"].resize(2)
    with no_descriptor_free():
        rig.clock.advance(HANDSHAKE_SECONDS)
    assert rig.retired == 1
    rig.accepted.clear()
    rig.clock.advance(1.0)
    assert rig.accepted == [waiting]
    assert rig.retired == 0


def test_slot_that_comes_back_in_time_keeps_its_socket(rig: Rig) -> None:
    """
    The closing of a removed slot's socket does not hit a slot that was added since.
    """
    rig.steering.placed(rig.slots[:2], [0, 1])
    member = rig.group.retired[0]
    rig.clock.advance(HANDSHAKE_SECONDS - 1)
    assert rig.steering.prepare(3) == ""
    rig.steering.placed(rig.slots, [0, 1, 2])
    rig.clock.advance(HANDSHAKE_SECONDS)
    assert rig.group.sockets[2] is member
    rig.connect(2, 3)
    assert rig.turn() == []


def test_slot_that_is_removed_again_has_its_time_again(rig: Rig) -> None:
    """
    The time for a handshake runs from the last removal.
    """
    rig.steering.placed(rig.slots[:2], [0, 1])
    rig.clock.advance(HANDSHAKE_SECONDS - 1)
    rig.steering.placed(rig.slots, [0, 1, 2])
    rig.steering.placed(rig.slots[:2], [0, 1])
    rig.clock.advance(HANDSHAKE_SECONDS - 1)
    assert rig.retired == 1


def test_resize_that_cannot_be_is_refused_before_anything_moves(rig: Rig) -> None:
    """
    Want of descriptors, and a number that the program cannot have, are reasons.
    """
    with no_descriptor_free():
        assert "Too many open files" in rig.steering.prepare(4)
    assert "257" in rig.steering.prepare(257)
    assert rig.retired == 0


def test_kernel_that_does_not_follow_is_told_of_and_nobody_is_lost(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    If the program cannot be replaced, the primary accepts for the slots that are gone.
    """

    def refuse(_: int) -> None:
        raise ListenError("the kernel refuses")

    monkeypatch.setattr(rig.group, "resize", refuse)
    waiting = rig.connect(2, 3)
    with capturedLogs() as logged:
        rig.steering.placed(rig.slots[:2], [0, 1])
    assert "the kernel refuses" in formatEvent(logged[0])
    assert rig.turn() == [waiting]


def test_entrusting_waits_for_a_descriptor(rig: Rig) -> None:
    """
    A primary without a free descriptor entrusts later, if the worker is still there.
    """
    with no_descriptor_free():
        worker = rig.occupy(0)
        gone = rig.occupy(1)
        rig.slots[1].vacate([])
    assert worker.entrusted == []
    rig.clock.advance(1.0)
    assert rig.entrusted(worker) == [0]
    assert gone.entrusted == []


def test_stop_takes_who_waits_and_ends_the_workers_copies(rig: Rig) -> None:
    """
    After a stop nobody listens, and nobody who was queued is reset.
    """
    worker = rig.occupy(0)
    waiting = [rig.connect(slot, 3) for slot in (0, 1, 2)]
    rig.steering.stop()
    assert sorted(rig.accepted) == sorted(waiting)
    with pytest.raises(ConnectionRefusedError):
        rig.connect(0, 3)
    assert len(worker.entrusted) == 1
    os.close(worker.entrusted.pop().descriptor)


def test_paused_primary_accepts_nobody_and_goes_on(rig: Rig) -> None:
    """
    While the primary replaces itself, those wait whom no worker accepts.
    """
    rig.steering.placed(rig.slots, [0, 1])
    waiting = rig.connect(2, 3)
    rig.steering.pause()
    assert rig.turn() == []
    rig.steering.proceed()
    assert rig.turn() == [waiting]


# a former self's groups


def test_groups_outlive_the_primarys_code(rig: Rig) -> None:
    """
    The successor has the same sockets in the same order, removed ones included.
    """
    rig.steering.placed(rig.slots[:2], [0, 1])
    plain = rig.steering.dump_state()
    for member in plain["tcp:0"]["members"]:
        member["descriptor"] = os.dup(member["descriptor"])
    groups, steers = restore_groups(Settings(steering="kernel", listen=("tcp:0",)), plain)
    assert steers
    group = groups["tcp:0"]
    assert (group.slots, len(group.sockets), len(group.retired)) == (2, 2, 1)
    for ours, theirs in zip(
        (*rig.group.sockets, *rig.group.retired), (*group.sockets, *group.retired), strict=True
    ):
        assert os.fstat(ours.fileno()).st_ino == os.fstat(theirs.fileno()).st_ino
        assert not theirs.get_inheritable()
    group.close()


def test_former_groups_serve_settings_that_the_kernel_cannot_steer_by(rig: Rig) -> None:
    """
    The primary accepts from all sockets then, and entrusts nobody.
    """
    plain = rig.steering.dump_state()
    for member in plain["tcp:0"]["members"]:
        member["descriptor"] = os.dup(member["descriptor"])
    with capturedLogs() as logged:
        groups, steers = restore_groups(Settings(placement="modulo"), plain)
    assert not steers
    assert "steering by handoff" in formatEvent(logged[0])
    steering = KernelSteering(rig.clock, rig.readiness)
    steering.open(groups, rig._accept, steers)
    assert steering.prepare(300) == ""
    steering.placed(rig.slots, [0, 1, 2])
    steering.occupied(rig.slots[0])
    waiting = sorted(rig.connect(slot, 3) for slot in (0, 1, 2))
    assert sorted(rig.turn()) == waiting
    steering.stop()


# opening


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("tcp:3000", ("", 3000, BACKLOG)),
        ("tcp:3000:interface=127.0.0.1:backlog=7", ("127.0.0.1", 3000, 7)),
        ("tcp6:3000", ("::", 3000, BACKLOG)),
        ("tcp:80:interface=\\:\\:1", ("::1", 80, BACKLOG)),
    ],
)
def test_address_of_an_endpoint(description: str, expected: tuple[str, int, int]) -> None:
    """
    It is what the endpoint would listen on, but for the backlog's default.
    """
    assert listening_address(description) == expected


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"affinity": "cookie:stickyd,ip"}, "only the address, not cookie:stickyd"),
        ({"affinity": "sni,ip"}, "only the address, not sni"),
        ({"placement": "modulo"}, "rendezvous placement only, not modulo"),
        ({"placement": "least"}, "rendezvous placement only, not least"),
        ({"trust": "127.0.0.1"}, "what a trusted proxy says"),
        ({"listen": "unix:/run/x"}, "it needs a tcp: or tcp6: endpoint, and 'unix:/run/x' is none"),
    ],
)
def test_settings_that_the_kernel_cannot_steer_by(given: dict[str, object], reason: str) -> None:
    """
    Each is refused in one line; ``auto`` hands over instead and says the same.
    """
    with pytest.raises(SettingError, match=f"kernel steering is impossible here: .*{reason}"):
        require_kernel(Settings.read(given))
    with capturedLogs() as logged:
        assert open_groups(Settings.read({**given, "steering": "auto"}), 2, print) == {}
    assert reason in formatEvent(logged[0])


def test_prefix_lengths_are_the_affinitys() -> None:
    """
    What the kernel masks is what the key masks.
    """
    key = require_kernel(Settings.read({"affinity": "ip/24/56"}))
    assert (key.ipv4_prefix, key.ipv6_prefix) == (24, 56)


def test_address_in_use_is_an_error_that_says_what_to_do() -> None:
    """
    With ``kernel`` the start ends with it; ``auto`` leaves it to the endpoint to tell.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        with pytest.raises(ListenError, match="another program listens there"):
            open_groups(Settings.read({"listen": listen, "steering": "kernel"}), 2, print)
        settings = Settings.read({"listen": listen, "steering": "auto"})
        with capturedLogs() as logged:
            assert open_groups(settings, 2, print) == {}
        assert logged[0]["log_level"].name == "warn"


def test_kernel_that_disagrees_is_found_out_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A group that does not place as we do is not used, and nothing of it stays open.
    """
    key = require_kernel(Settings())
    monkeypatch.setattr("stickyd.listen.reuseport.setup.Rendezvous", FakePlacement)
    with pytest.raises(ListenError, match="kernel steering does not work here: the kernel put"):
        open_checked_group("tcp:0:interface=127.0.0.1", key, 3, print)


def test_second_endpoint_that_fails_closes_the_first() -> None:
    """
    Nothing stays open of what was opened before.
    """
    listen = ["tcp:0:interface=127.0.0.1", "tcp:0:interface=203.0.113.1"]
    with pytest.raises(ListenError, match=r"203\.0\.113\.1"):
        open_groups(Settings.read({"listen": listen, "steering": "kernel"}), 2, print)
