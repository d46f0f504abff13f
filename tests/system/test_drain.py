"""
Drain: clients leave a slot with all they have, and come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.client import Client, ask_once
from tests.system.placing import sources_of

if TYPE_CHECKING:
    from tests.system.conftest import Start


def test_drains_and_comes_back(start: Start) -> None:
    """
    A drained slot's clients are served elsewhere, on the connections that they have and
    with their counts; undrained, it has them back.
    """
    server = start(embedded=True, workers=3)
    sources = sources_of(1, 3, 6)
    clients = [Client(server.target, source) for source in sources]
    home = server.worker(1)
    assert [client.ask().counted for client in clients] == [(home, 1)] * 6
    assert server.ask("drain 1") == ""
    away = [client.ask().counted for client in clients]
    assert {hits for _, hits in away} == {2}
    assert {pid for pid, _ in away} == {server.worker(0), server.worker(2)}
    # One who comes by a new connection is where its session is.
    assert ask_once(server.target, sources[0]).counted == (away[0][0], 3)
    assert server.ask("undrain 1") == ""
    assert [client.ask().counted[0] for client in clients] == [home] * 6
    assert clients[0].ask().counted == (home, 5)
    for client in clients:
        client.close()


def test_another_drained_slot_loses_nothing(start: Start) -> None:
    """
    A second drain may change who has the clients of the first slot: its clients move on.
    """
    server = start(embedded=True, workers=4)
    clients = [Client(server.target, source) for source in sources_of(1, 4, 12)]
    for hits, command in enumerate(("drain 1", "drain 2", "drain 0", "undrain 2", "undrain 1"), 1):
        assert {client.ask().counted[1] for client in clients} == {hits}
        assert server.ask(command) == ""
    assert [client.ask().counted for client in clients] == [(server.worker(1), 6)] * 12
    for client in clients:
        client.close()


def test_refusals(start: Start) -> None:
    """
    What cannot be drained, or was not, is said.
    """
    server = start(embedded=True, workers=2)
    server.allow("Not drained: ", "Not undrained: ")
    assert server.ask("drain 2") == "there is no slot 2: they are 0 to 1"
    assert server.ask("undrain 1") == "slot 1 is not drained"
    assert server.ask("drain 1") == ""
    assert server.ask("drain 0") == "it is the last available slot; stop the server instead"
    assert ask_once(server.target).counted == (server.worker(0), 1)
