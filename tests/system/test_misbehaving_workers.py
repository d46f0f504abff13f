"""
Fault 16: a worker that says strange things is ended, and nobody else notices.
"""

from __future__ import annotations

import http.client
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.system.client import Client
from tests.system.misbehaving import CHANNEL, CONTROL
from tests.system.placing import sources_of
from tests.system.processes import descriptors_of, eventually, is_alive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.system.conftest import Start

#: What the log says of it, which is a complaint; nothing else may be.
EXPECTED = (
    r"broke the protocol of its (handoff|control) channel: it sent .*\. It is ended$",
    r"\(slot 0\) broke the protocol of its (handoff|control) channel; \d+ unacknowledged",
    r"next start",
    "of the new connections have the affinity key",
)


@pytest.mark.parametrize("names", [CHANNEL, CONTROL], ids=["handoff", "control"])
def test_fault_16_a_worker_that_breaks_the_protocol_is_ended_alone(
    names: Sequence[str], start: Start
) -> None:
    """
    Fault 16: whatever a worker says that it may not, it is ended with one line in the log, its
    slot has a successor, and the other slot, its worker and the primary go on as before.
    """
    server = start(
        *("--resource", "tests.system.misbehaving:site", "--backoff", "0.01"),
        *("--backoff-limit", "0.05"),
    )
    server.allow(*EXPECTED)
    ((bad, *_), (good, *_)) = (sources_of(slot, 2, 1) for slot in range(2))
    neighbour = server.worker(1)
    with Client(server.target, good) as kept:
        assert kept.ask().body == b"%d" % neighbour
        before = len(descriptors_of(server.pid))
        for name in names:
            culprit = server.worker(0)
            since = server.log.mark()
            with Client(server.target, bad) as client, suppress(OSError, http.client.HTTPException):
                client.ask(f"/{name}")
            try:
                told = server.log.wait_for(
                    rf"Worker {culprit} \(slot 0\) broke the protocol of its \w+ channel: (.*)",
                    since,
                )
            except AssertionError:
                raise AssertionError(f"{name}: nobody minds\n{server.log.text}") from None
            assert "\n" not in told[1]
            assert eventually(lambda culprit=culprit: not is_alive(culprit)), name  # type: ignore[misc]
            server.log.wait_for(r"Worker \d+ online", since)
            with Client(server.target, bad) as client:
                assert client.ask().body == b"%d" % server.worker(0), name
            assert kept.ask().body == b"%d" % neighbour, name
            with Client(server.target, good) as client:
                assert client.ask().body == b"%d" % neighbour, name
        assert eventually(lambda: len(descriptors_of(server.pid)) <= before), "leaked"
