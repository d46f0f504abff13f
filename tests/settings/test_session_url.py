"""
Tests of the URL of the store of sessions.
"""

from __future__ import annotations

import pytest

from stickyd.errors import SettingError
from stickyd.settings.session_url import STORES, SessionUrl, parse_session_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://127.0.0.1/0", "redis://127.0.0.1/0"),
        ("redis://:s3cret@db:6379/0", "redis://***@db:6379/0"),
        ("rediss://app:s3@cret@db?wait=1", "rediss://***@db?wait=1"),
        ("redis://:s3/cr?e#t@db/0", "redis://***@db/0"),
        ("redis://db?password=s3cret&wait=1", "redis://db?password=***&wait=1"),
        (
            "redis://db?username=a&sentinel_password=s3cret",
            "redis://db?username=a&sentinel_password=***",
        ),
        ("sqlite:/var/lib/a@b", "sqlite:/var/lib/a@b"),
        ("memory", "memory"),
    ],
)
def test_secrets_are_not_shown(text: str, shown: str) -> None:
    """
    What is shown has neither user nor password; what is used has.
    """
    scheme, _, rest = text.partition(":")
    url = SessionUrl(scheme, rest)
    assert url.shown == shown
    assert url.text == text
    assert "s3" not in repr(url)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("memori", "there is no store 'memori'; did you mean memory?"),
        ("mongo://:s3cret@db", r"--sessions mongo://\*\*\*@db: there is no store 'mongo'; known: "),
        ("/var/lib", "that is no URL"),
        ("", "that is no URL"),
        ("memory:", "nothing follows the colon"),
    ],
)
def test_refused(text: str, problem: str) -> None:
    """
    What is no URL of a store is one line that says what to write, without a secret.
    """
    with pytest.raises(SettingError, match=problem) as raised:
        parse_session_url(text)
    assert "s3cret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_store_can_be_had() -> None:
    """
    What the table names exists.
    """
    from importlib import import_module

    for scheme, factory in STORES.items():
        module, _, name = factory.partition(":")
        assert callable(getattr(import_module(module), name)), scheme
    assert parse_session_url("MEMORY").factory == STORES["memory"]
