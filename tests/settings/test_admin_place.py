"""
Where the admin endpoint listens, and what it takes to open it to others.
"""

from __future__ import annotations

import pytest

from stickyd.errors import SettingError
from stickyd.settings import Settings
from stickyd.settings.admin_place import AdminPlace, parse_admin_place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9100", AdminPlace("127.0.0.1", 9100)),
        ("tcp:9100", AdminPlace("127.0.0.1", 9100)),
        ("tcp:0:interface=127.0.0.2", AdminPlace("127.0.0.2", 0)),
        ("tcp:port=9100:interface=localhost", AdminPlace("127.0.0.1", 9100)),
        ("tcp6:9100", AdminPlace("::1", 9100)),
        (r"tcp6:9100:interface=\:\:1", AdminPlace("::1", 9100)),
        ("unix:/run/a.sock", AdminPlace(path="/run/a.sock")),
        ("unix:/run/a.sock:mode=0600", AdminPlace(path="/run/a.sock")),
    ],
)
def test_private_places(text: str, place: AdminPlace) -> None:
    """
    Loopback without a word, and a socket that only its owner may open.
    """
    assert parse_admin_place("--admin", text, False) == place


@pytest.mark.parametrize(
    "text",
    ["tcp:9100:interface=0.0.0.0", "tcp:9100:interface=10.0.0.5", r"tcp6:9100:interface=\:\:",
     "unix:/run/a.sock:mode=660"],
)  # fmt: skip
def test_open_places_need_a_word(text: str) -> None:
    """
    Nobody opens it to the world by mistake.
    """
    with pytest.raises(SettingError, match="--admin-public on"):
        parse_admin_place("--admin", text, False)
    assert not parse_admin_place("--admin", text, True).is_private


@pytest.mark.parametrize(
    "text",
    ["", ":", "http", "tcp:", "tcp:http", "tcp:70000", "tcp:1:2", "tcp:1:backlog=3", "unix:",
     "unix:/a:mode=9", "ssl:443", "tcp:1:interface=shop.example", "127.0.0.1:9100", "\\"],
)  # fmt: skip
def test_what_is_no_place_is_refused(text: str) -> None:
    """
    One line says what to write instead.
    """
    with pytest.raises(SettingError, match="write"):
        parse_admin_place("--admin", text, True)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"admin_host": ["ops.example"]}, "--admin-host means nothing without --admin"),
        ({"admin_token_file": "t"}, "--admin-token-file means nothing"),
        ({"lame_duck": 5}, "--lame-duck means nothing"),
        ({"ready_slots": 2}, "--ready-slots means nothing"),
        ({"admin_public": "on"}, "--admin-public means nothing"),
        ({"admin": "9100", "ready_store": "on"}, "--ready-store on"),
        ({"agent_check": "tcp:1:interface=0.0.0.0"}, "--agent-check tcp:1:interface=0.0.0.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given: dict[str, object], says: str) -> None:
    """
    What nobody would ever see is a mistake.
    """
    with pytest.raises(SettingError) as refused:
        Settings.read(given)
    assert says in str(refused.value)
