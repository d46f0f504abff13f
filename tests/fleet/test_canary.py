"""
A canary that is written down.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from stickyd.errors import SettingError
from stickyd.fleet.canary import Canary
from stickyd.fleet.process.spawner import spec_of
from stickyd.settings import Settings


def _settings(**given: Any) -> Settings:
    return Settings.read({"reload_mode": "client", "affinity": "cookie:stickyd", **given})


def _canary(settings: Settings, slots: int = 2) -> Canary:
    return Canary(spec_of(settings, (b"a" * 32, b"\xff" * 32), "0badcafe"), range(slots), 7)


def test_it_is_the_same_afterwards() -> None:
    """
    What workers were started with before, secrets among it, and the slots go over an upgrade.
    """
    settings = _settings(generation_name="1.4")
    plain = json.loads(json.dumps(_canary(settings).dump_state()))
    restored = Canary.from_state(plain, _settings(generation_name="1.5"))
    assert restored.former == _canary(settings).former
    assert (restored.slots, restored.generation, restored.is_inherited) == (range(2), 7, True)
    assert [_canary(settings, slots).shown for slots in (1, 3)] == ["slot 0", "slots 0 to 2"]


def test_what_a_reload_cannot_change_is_the_primary_s_own() -> None:
    """
    To go back is a reload: what has changed by the upgrade alone stays.
    """
    plain = _canary(_settings(queue_limit=5, generation_name="1.4")).dump_state()
    former = Canary.from_state(plain, _settings(queue_limit=6)).former.settings
    assert (former.queue_limit, former.generation_name) == (6, "1.4")


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({}, {"reload_mode": "connection"}, "--reload-mode client"),
        ({"of_yore": 1}, {}, "of.yore"),
        ({"heartbeat": -1}, {}, "heartbeat"),
    ],
)
def test_it_is_over_where_nobody_could_go_back(
    before: dict[str, Any], after: dict[str, Any], why: str
) -> None:
    """
    Without keepers, or with settings that this code does not know, and it says which.
    """
    plain = _canary(_settings()).dump_state()
    plain["settings"] = json.dumps({**json.loads(plain["settings"]), **before})
    with pytest.raises(SettingError, match=why):
        Canary.from_state(plain, _settings(**after))
