"""
Who may ask the admin endpoint what.
"""

from __future__ import annotations

import pytest

from stickyd.admin.guard import Guard
from stickyd.settings.admin_place import AdminPlace, parse_admin_place

TOKEN = "the token of this test"
LOCAL = parse_admin_place("--admin", "9100", False)


def guard(place: AdminPlace = LOCAL, *hosts: str) -> Guard:
    """
    A guard of an endpoint.
    """
    return Guard(place, hosts, TOKEN, place.port)


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:9100", "LOCALHOST.", "127.0.0.1:9100", "127.8.8.8", "[::1]:9100",
     "ops.example", "OPS.example:80"],
)  # fmt: skip
def test_own_names_are_ours(host: str) -> None:
    """
    Loopback, ``localhost``, and the names that the operator has given.
    """
    assert guard(LOCAL, "ops.example").objection_to_host(host) == ""


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1",
     "[2001:db8::1]", "localhost@evil.example", "x" * 500, "[", "a b"],
)  # fmt: skip
def test_foreign_names_are_not(host: str | None) -> None:
    """
    A name that somebody else has our address given to leads nowhere.
    """
    assert guard().objection_to_host(host)


def test_address_of_a_public_endpoint_is_its_own() -> None:
    """
    No page of another site can have an address as its host.
    """
    public = guard(parse_admin_place("--admin", "tcp:9100:interface=0.0.0.0", True))
    assert public.objection_to_host("10.0.0.1:9100") == ""
    assert public.objection_to_host("evil.example")


@pytest.mark.parametrize(
    ("origin", "site", "refused"),
    [
        (None, None, False),
        (None, "none", False),
        ("http://localhost:9100", "same-origin", False),
        ("http://LOCALHOST:9100", None, False),
        ("http://localhost:9101", None, True),
        ("http://evil.example", None, True),
        ("null", None, True),
        ("", None, True),
        (None, "cross-site", True),
        (None, "same-site", True),
        ("http://localhost:9100", "cross-site", True),
    ],
)
def test_other_sites_pages_change_nothing(
    origin: str | None, site: str | None, refused: bool
) -> None:
    """
    What a browser sends for another site's page says so; programs say nothing.
    """
    assert bool(guard().objection_to_origin("localhost:9100", origin, site)) is refused


@pytest.mark.parametrize(
    ("authorization", "cookies", "known"),
    [
        (f"Bearer {TOKEN}", None, True),
        (f"bearer  {TOKEN} ", None, True),
        (None, f'a=b; stickyd-admin-9100="{TOKEN}"', True),
        (None, None, False),
        ("Bearer", "", False),
        ("Bearer x", "stickyd-admin-9100=x", False),
        (f"Basic {TOKEN}", None, False),
        (None, f'stickyd-admin-9101="{TOKEN}"', False),
        ("Bearer \udcff", None, False),
        (None, "a=[]; \x00 b", False),
    ],
)
def test_token_opens(authorization: str | None, cookies: str | None, known: bool) -> None:
    """
    As programs send it, or as a browser keeps it, and nothing else.
    """
    assert guard().knows(authorization, cookies) is known


def test_file_of_a_socket_says_who_may() -> None:
    """
    Whoever may open it needs no token, unless others may open it too.
    """
    assert guard(parse_admin_place("--admin", "unix:/run/a.sock", False)).knows(None, None)
    shared = parse_admin_place("--admin", "unix:/run/a.sock:mode=666", True)
    assert not guard(shared).knows(None, None)
