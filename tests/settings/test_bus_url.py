"""
Tests of ``--bus``.
"""

from __future__ import annotations

import pytest

from stickyd.errors import SettingError
from stickyd.settings import Settings
from stickyd.settings.bus_url import read_bus_url


def test_local_or_a_redis() -> None:
    """
    As that of sessions, but for what means nothing here.
    """
    assert read_bus_url("local") is None
    address = read_bus_url("valkeys+sentinel://:s3cret@a,b/main?prefix=shop:")
    assert address is not None
    assert (address.form, address.tls, address.prefix) == ("sentinel", True, "shop:")
    assert str(address) == "rediss+sentinel://a:26379,b:26379/main/0"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("", "neither local nor the URL"),
        ("redis", "neither local nor the URL"),
        ("primary", "write redis://HOST:6379"),
        ("http://s3cret@host", "not one of the forms"),
        ("redis://:s3cret@host:99999", "the port 99999 does not exist"),
        ("redis://:s3cret@host?wait=1", "'wait' is no option of it; write prefix=, ca="),
        ("redis://:s3c?ret@host", "one of its options is no option|is not HOST"),
    ],
)
def test_wrong_one_is_one_line_without_secrets(value: str, complaint: str) -> None:
    """
    It names the setting, and what to write.
    """
    with pytest.raises(SettingError, match=complaint) as raised:
        Settings.read({"bus": value})
    text = str(raised.value)
    assert text.startswith("--bus: ")
    assert "s3c" not in text.replace("ret", "")


def test_needs_an_asyncio_loop() -> None:
    """
    redis-py has it no other way.
    """
    with pytest.raises(SettingError, match=r"--bus redis://h:6379/0: .* needs an asyncio loop"):
        Settings.read({"bus": "redis://:s3cret@h", "worker_reactor": "epoll"})
