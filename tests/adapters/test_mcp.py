"""
What an MCP server is given, beyond what the SDK's own tests ask.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from mcp.server.request_state import InvalidRequestState
from mcp.shared.subscriptions import ResourceUpdated, ToolsListChanged

import stickyd
from stickyd import bus
from stickyd.mcp import SubscriptionBus, request_state_security

if TYPE_CHECKING:
    from mcp.shared.subscriptions import ServerEvent


def test_buses_tell_each_other() -> None:
    """
    Each event once, in order, to those of the same channel; a listener that raises, and what is
    no event, disturb nobody.
    """

    async def go() -> None:
        here, there, apart = SubscriptionBus(), SubscriptionBus(), SubscriptionBus("apart")
        heard: dict[str, list[ServerEvent]] = {"here": [], "there": [], "apart": []}

        def fail(event: ServerEvent) -> None:
            raise ValueError

        there.subscribe(fail)
        for name, one in (("here", here), ("there", there), ("apart", apart)):
            one.subscribe(heard[name].append)
        events: list[ServerEvent] = [ResourceUpdated("note://é"), ToolsListChanged()]
        await here.publish(events[0])
        for garbage in (b"", b"\xff", b"[]", b"1", b'{"origin": "x", "kind": "y", "event": {}}'):
            bus.publish("stickyd.mcp.mcp", garbage)
        bus.publish_json(
            "stickyd.mcp.mcp", {"origin": "x", "kind": "ToolsListChanged", "event": {"uri": 1}}
        )
        await here.publish(events[1])
        while len(heard["there"]) < 2:  # noqa: ASYNC110 (nobody says when)
            await asyncio.sleep(0)
        assert heard == {"here": events, "there": events, "apart": []}

    asyncio.run(asyncio.wait_for(go(), 10))


def test_state_is_opened_by_any_of_the_fleets_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    As they are at the moment; another label has other keys.
    """
    keys = {"a": [b"1" * 32], "b": [b"2" * 32]}
    monkeypatch.setattr(stickyd, "secrets", lambda label: list(keys[label]))
    one, other = request_state_security("a").codec, request_state_security("a").codec
    former = one.seal(b"state")
    assert other.unseal(former) == b"state"
    keys["a"].insert(0, b"3" * 32)
    latter = one.seal(b"state")
    assert other.unseal(former) == other.unseal(latter) == b"state"
    del keys["a"][1]
    assert other.unseal(latter) == b"state"
    for token, codec in ((former, other), (latter, request_state_security("b").codec)):
        with pytest.raises(InvalidRequestState):
            codec.unseal(token)
