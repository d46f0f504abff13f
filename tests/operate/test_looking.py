"""
What operators are told of the settings.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred

from stickyd.operate.table import Commands
from stickyd.settings import Settings
from stickyd.settings.settings import rules


def told(settings: Settings, origins: dict[str, str], slots: int = 2) -> dict[str, dict[str, Any]]:
    """
    What ``config`` answers, by the names of settings.
    """
    primary: Any = SimpleNamespace(
        operations=SimpleNamespace(settings=settings),
        origins=lambda: origins,
        fleet=SimpleNamespace(table=SimpleNamespace(placed=slots)),
    )
    asker: Any = SimpleNamespace(is_open=True)
    answers: list[dict[str, Any]] = []
    outcome: Deferred[dict[str, Any]] = Commands(primary).run("config", {}, asker)
    outcome.addCallback(answers.append)
    return {each["name"]: each for each in answers[0]["settings"]}


def test_every_setting_is_told_with_its_origin() -> None:
    """
    Where it was given, whether it is the default, and what changes it.
    """
    settings = Settings.read({"workers": 3, "stop-timeout": 7, "affinity": "ip/24"})
    found = told(settings, {"workers": "the command line", "stop-timeout": "the file x"})
    assert found.keys() == rules().keys()
    assert found["workers"]["value"] == 3
    assert found["workers"]["slots"] == 2
    assert (found["stop-timeout"]["origin"], found["stop-timeout"]["default"]) == (
        "the file x",
        False,
    )
    assert (found["affinity"]["origin"], found["affinity"]["changes_by"]) == (
        "kept from an earlier start",
        "upgrade",
    )
    assert found["steering"]["changes_by"] == "restart"
    assert "slots" not in told(settings, {}, 3)["workers"]


def test_no_secret_is_ever_told() -> None:
    """
    Whatever may have a password in it is told without.
    """
    for url in (
        "redis://user:hunter2@h:1/0",
        "redis://:hunter2@h/0",
        "rediss://user:hunter%402@h:1/0?prefix=x",
        "redis+sentinel://:hunter2@h1:1,h2:2/main?sentinel_password=hunter2",
    ):
        for name in ("sessions", "bus"):
            value = told(Settings(**{name: url}), {})[name]["value"]  # type: ignore[arg-type]
            assert "hunter" not in value
            assert value.startswith(url.partition(":")[0])
