"""
Tests of the URL of a Redis.
"""

from __future__ import annotations

from urllib.parse import quote

import hypothesis.strategies as st
import pytest
from hypothesis import given

from stickyd.errors import SettingError
from stickyd.redis.url import RedisAddress, read_redis_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://db", RedisAddress("server", (("db", 6379),))),
        ("redis://db:7000/3", RedisAddress("server", (("db", 7000),), database=3)),
        ("valkey://[::1]:7000", RedisAddress("server", (("::1", 7000),))),
        (
            "rediss://db?ca=/etc/ca.pem",
            RedisAddress("server", (("db", 6379),), True, ca="/etc/ca.pem"),
        ),
        ("VALKEYS://db", RedisAddress("server", (("db", 6379),), True)),
        (
            "redis://app:s3%40cret@db/",
            RedisAddress("server", (("db", 6379),), user="app", password="s3@cret"),
        ),
        ("redis://:a:b@db", RedisAddress("server", (("db", 6379),), password="a:b")),
        (
            "redis+sentinel://a,b:27000/main/2?wait=1&wait_ms=50&sentinel_password=x",
            RedisAddress(
                "sentinel",
                (("a", 26379), ("b", 27000)),
                database=2,
                service="main",
                wait_replicas=1,
                wait_ms=50,
                sentinel_password="x",
            ),
        ),
        (
            "valkey+cluster://a:1,b:2/?prefix=shop%3A",
            RedisAddress("cluster", (("a", 1), ("b", 2)), prefix="shop:"),
        ),
    ],
)
def test_forms(url: str, address: RedisAddress) -> None:
    """
    Each form says what it is for.
    """
    assert read_redis_url(url) == address


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://db", "not one of the forms; write redis://HOST"),
        ("redis:db", "not one of the forms"),
        ("redis+sentinels://a/b", "not one of the forms"),
        ("redis://", "one of its hosts is not HOST or HOST:PORT"),
        ("redis://a b", "one of its hosts is not HOST"),
        ("redis://db:seven", "one of its hosts is not HOST"),
        ("redis://db:0", "the port 0 does not exist; write one from 1 to 65535"),
        ("redis://db:70000", "the port 70000 does not exist"),
        ("redis://::1", r"one of its hosts .*; write \[..\] around an IPv6 address"),
        ("redis://a,b", r"it has several hosts; write redis\+sentinel://"),
        ("redis://db/x", "the database must be a number from 0 to"),
        ("redis://db/1/2", "its path is too long"),
        ("redis://app@db", "it has a user and no password"),
        ("redis+sentinel://a", "it does not name the service of the Sentinels"),
        ("redis+cluster://a/1", "a Cluster has no databases"),
        ("redis://db?wiat=1", "'wiat' is no option of it; write prefix=, wait=, wait_ms="),
        ("redis://db?wait=1&wait=2", "it has wait= twice"),
        ("redis://db?wait=-1", "wait must be a number from 0 to 100"),
        ("redis://db?wait_ms=0", "wait_ms must be a number from 1 to 60000"),
        ("redis://db?ca=/x", "ca= is for TLS; write rediss://"),
        ("redis://db?sentinel_password=x", "for Sentinels; leave them out"),
        ("redis://db?prefix={a}", "prefix= has a brace"),
    ],
)
def test_refused(url: str, problem: str) -> None:
    """
    What is wrong is one line that says what to write instead.
    """
    with pytest.raises(SettingError, match=problem) as raised:
        read_redis_url(url)
    assert "\n" not in str(raised.value)


@given(
    password=st.text(min_size=8).map(lambda text: f"s3cret{text}"),
    quoted=st.booleans(),
    form=st.sampled_from(
        ["redis://:{}@db/0", "redis://app:{}@db", "redis+sentinel://a/b?sentinel_password={}"]
    ),
)
def test_no_password_is_shown(password: str, quoted: bool, form: str) -> None:
    """
    Neither what is shown of an address nor an error has the password, quoted or not.
    """
    url = form.format(quote(password, safe="") if quoted else password)
    said = []
    try:
        address = read_redis_url(url)
    except SettingError as problem:
        assert not quoted
        said.append(str(problem))
    else:
        said += [str(address), repr(address)]
        assert not quoted or password in (address.password, address.sentinel_password)
    assert "s3cret" not in "".join(said)
