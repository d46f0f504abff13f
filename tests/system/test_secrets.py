"""
Fault 7: a secret is replaced while clients come and go, and nobody is sent away.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

from stickyd.affinity.token import Signer
from tests.system.client import Client
from tests.system.rehoming import request, set_cookies
from tests.system.test_keys import secret_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Start
    from tests.system.gate import Gate
    from tests.system.server import Server

OLD = b"an old secret of some length"
NEW = b"a new secret of some length"
APPLICATION = ("--resource", "tests.system.broken.slow:root", "--affinity", "cookie:stickyd")


def asked(client: Client, token: str = "") -> tuple[int, str]:
    """
    Make a request.

    :return: the slot that answers, and the cookie that it gives.
    """
    client.socket.sendall(request(*([f"Cookie: stickyd={token}"] if token else [])))
    with client.response() as response:
        slot: int = json.loads(response.read())["slot"]
    return slot, set_cookies(response).get("stickyd", "").partition(";")[0]


def newcomer_of(server: Server, stack: ExitStack, slot: int) -> tuple[Client, str]:
    """
    A client that a slot has given a cookie to, and its connection.
    """
    for _ in range(8):
        client = stack.enter_context(Client(server.target))
        found, token = asked(client)
        if found == slot:
            return client, token
    raise AssertionError(f"newcomers do not get to slot {slot}")


def check_between(server: Server, stack: ExitStack, kept: Client, old: list[str]) -> None:
    """
    Slot 0 has a fresh worker by now, and slot 1 has not.
    """
    _, fresh = newcomer_of(server, stack, 0)
    assert Signer([NEW]).slot_of(fresh.encode()) == 0
    # It comes on a connection of the worker that signs with the old secret, and goes home.
    assert asked(kept, fresh) == (0, "")
    # So do all others, wherever they begin.
    for slot, token in enumerate(old):
        for _ in range(3):
            with Client(server.target) as client:
                assert asked(client, token) == (slot, "")
                assert asked(client, fresh) == (0, "")
    _, stale = newcomer_of(server, stack, 1)
    assert Signer([OLD]).slot_of(stale.encode()) == 1
    with Client(server.target) as client:
        assert asked(client, stale) == (1, "")


def test_fault_7_a_new_secret_on_top(start: Start, gate: Gate, tmp_path: Path) -> None:
    """
    Fault 7: while workers are replaced one by one, those that sign with the old secret know the
    new one already, and the primary knows both.
    """
    path = secret_file(tmp_path, OLD)
    server = start(
        *APPLICATION, "--secret-file", path, "--heartbeat", "60",
        variables=gate.variables, ready=False,
    )  # fmt: skip
    for _ in range(2):
        gate.wait_for_arrival()
    gate.open()
    server.wait_until_ready()
    with ExitStack() as stack:
        kept, one = newcomer_of(server, stack, 1)
        _, zero = newcomer_of(server, stack, 0)
        secret_file(tmp_path, NEW, OLD)
        since = server.log.mark()
        server.send(signal.SIGHUP)
        gate.wait_for_arrival()
        gate.open()
        # The successor in slot 1 is held at the gate while slot 0 signs with the new secret.
        gate.wait_for_arrival()
        check_between(server, stack, kept, [zero, one])
        gate.open()
        server.log.wait_for("Reloaded: every worker is fresh", since)
        for slot, token in ((0, zero), (1, one)):
            with Client(server.target) as client:
                assert asked(client, token) == (slot, "")


def test_fault_7_a_new_secret_at_an_upgrade(start: Start, gate: Gate, tmp_path: Path) -> None:
    """
    Fault 7, where the primary replaces itself first.
    """
    path = secret_file(tmp_path, OLD)
    server = start(
        *APPLICATION, "--secret-file", path, "--heartbeat", "60",
        variables=gate.variables, ready=False,
    )  # fmt: skip
    for _ in range(2):
        gate.wait_for_arrival()
    gate.open()
    server.wait_until_ready()
    with ExitStack() as stack:
        kept, one = newcomer_of(server, stack, 1)
        _, zero = newcomer_of(server, stack, 0)
        secret_file(tmp_path, NEW, OLD)
        since = server.log.mark()
        server.send(signal.SIGUSR2)
        gate.wait_for_arrival()
        gate.open()
        gate.wait_for_arrival()
        check_between(server, stack, kept, [zero, one])
        gate.open()
        server.log.wait_for("Reloaded: every worker is fresh", since)


def test_fault_7_a_secret_that_is_gone(start: Start, tmp_path: Path) -> None:
    """
    After a reload nothing counts any more that is not in the file.
    """
    path = secret_file(tmp_path, OLD)
    server = start("--resource", "tests.system.apps:mirror", *APPLICATION[2:],
                   "--secret-file", path)  # fmt: skip
    with Client(server.target) as client:
        slot, token = asked(client)
    os.truncate(path, 0)
    secret_file(tmp_path, NEW)
    server.reload()
    tokens = set()
    for _ in range(2):
        with Client(server.target) as client:
            tokens.add(asked(client, token)[1])
    # A stranger, who is given a new one wherever it begins.
    assert "" not in tokens
    assert slot in {Signer([NEW]).slot_of(found.encode()) for found in tokens}
