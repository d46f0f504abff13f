"""
Descriptors: when they run out nobody is mixed up or lost, and all of them come back.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from contextlib import ExitStack
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING

import pytest

from benchmarks.generator import Load, run_load
from stickyd.net.accept_loop import QUIET_SECONDS
from tests.system.client import Client, ask_once
from tests.system.log import PATIENCE
from tests.system.placing import source_address
from tests.system.processes import (
    cpu_seconds,
    descriptors_of,
    eventually,
    lowest_free_descriptor,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.server import Server

MIRROR = ("--resource", "tests.system.apps:mirror")


class Crowd:
    """
    Many clients, an address and a connection each, which all have sent a request.
    """

    def __init__(self, server: Server, count: int, stack: ExitStack) -> None:
        self._selector = stack.enter_context(DefaultSelector())
        self.unanswered: set[Client] = set()
        for number in range(count):
            client = stack.enter_context(Client(server.target, source_address(number)))
            client.send()
            self._selector.register(client.socket, EVENT_READ, client)
            self.unanswered.add(client)

    def take_answers(self, seconds: float) -> list[Client]:
        """
        Read the answers that have come, after waiting for the first for so long.

        :return: who was answered; each was told its own address and port.
        """
        answered = []
        for key, _ in self._selector.select(seconds):
            client = key.data
            told = client.answer().told
            assert (told["host"], told["port"]) == client.socket.getsockname()
            self._selector.unregister(client.socket)
            self.unanswered.discard(client)
            answered.append(client)
        return answered


def test_full_workers_mix_nobody_up(start: Start) -> None:
    """
    When workers run out of descriptors in the middle of a crowd, each client gets its
    own answer, as soon as others have left.
    """
    server = start(*MIRROR)
    server.allow("No more connections for now")
    for slot in range(2):
        worker = server.worker(slot)
        server.limit_descriptors(worker, lowest_free_descriptor(worker) + 10)
    with ExitStack() as stack:
        crowd = Crowd(server, 300, stack)
        server.log.wait_for("No more connections for now")
        while crowd.unanswered:
            leaving = crowd.take_answers(PATIENCE)
            assert leaving, f"{len(crowd.unanswered)} wait in vain:\n{server.log.text}"
            for client in leaving:
                client.close()


@pytest.mark.parametrize("spare", [0, 15])
def test_full_workers_lose_nobody(spare: int, start: Start) -> None:
    """
    Who could not be taken for want of descriptors is served when there are more.
    """
    server = start(*MIRROR)
    server.allow("No more connections for now")
    limits = {}
    for slot in range(2):
        worker = server.worker(slot)
        limits[worker] = lowest_free_descriptor(worker) + spare
        server.limit_descriptors(worker, limits[worker])
    with ExitStack() as stack:
        crowd = Crowd(server, 300, stack)
        server.log.wait_for("No more connections for now", count=2)
        while crowd.take_answers(0.5):
            pass
        # Nobody leaves, so the workers are full; and they stand at their limits at most.
        assert len(crowd.unanswered) >= 300 - 2 * spare
        for worker, limit in limits.items():
            assert len(descriptors_of(worker)) <= limit
            server.limit_descriptors(worker, 4096)
        while crowd.unanswered:
            assert crowd.take_answers(PATIENCE), f"wait in vain: {len(crowd.unanswered)}"


def test_full_primary_pauses(start: Start) -> None:
    """
    A primary without descriptors says so once in a while, does not spin, and loses nobody.
    """
    server = start(*MIRROR)
    server.allow("Accepting pauses")
    before = server.descriptors()
    assert ask_once(server.target).status == 200
    # Until the worker has acknowledged it, the primary holds that connection too, and
    # would have a descriptor to spare afterwards.
    assert eventually(lambda: settled(server, before)), f"{before} became {server.descriptors()}"
    server.limit_descriptors(server.pid, lowest_free_descriptor(server.pid))
    began = time.monotonic()
    with ExitStack() as stack:
        crowd = Crowd(server, 50, stack)
        server.log.wait_for("Accepting pauses for 0.1 s at a time: Too many open files")
        used = cpu_seconds(server.pid)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(1.0)
        # To spin would have used what the machine gives to one process.
        assert cpu_seconds(server.pid) - used < 0.2
        assert not crowd.take_answers(0)
        server.limit_descriptors(server.pid, 4096)
        while crowd.unanswered:
            assert crowd.take_answers(PATIENCE), f"wait in vain: {len(crowd.unanswered)}"
    told = len(server.log.found("Accepting pauses"))
    assert told <= 1 + (time.monotonic() - began) // QUIET_SECONDS


def settled(server: Server, before: dict[int, int]) -> bool:
    """
    Whether every process has as many descriptors open as before.
    """
    return server.descriptors() == before


@pytest.mark.parametrize("mode", ["close", "keepalive"])
def test_descriptors_come_back(mode: str, start: Start, load_program: Path, tmp_path: Path) -> None:
    """
    After 2,000 connections primary and workers have as many descriptors as before.
    """
    server = start()
    before = server.descriptors()
    requests = 2000 if mode == "close" else 4000
    outcome = run_load(
        load_program,
        Load(server.port, mode, 64, 256, 60, requests, 2, ledger=tmp_path / "ledger"),
    )
    assert outcome.errors == {}
    assert outcome.opened >= 2000
    assert eventually(lambda: settled(server, before)), f"{before} became {server.descriptors()}"


def test_hasty_clients_leave_nothing(start: Start) -> None:
    """
    Clients that have reset their connections before they are accepted do no harm and
    leave no descriptor behind.
    """
    server = start(*MIRROR)
    before = server.descriptors()
    server.suspend(server.pid)
    for number in range(200):
        with Client(server.target, source_address(number)) as client:
            client.send()
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.resume(server.pid)
    assert ask_once(server.target).status == 200
    assert eventually(lambda: settled(server, before)), f"{before} became {server.descriptors()}"
