"""
The form of a line in the access log: :mod:`stickyd.settings.access_format`.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyd.errors import SettingError
from stickyd.settings import Settings
from stickyd.settings.access_format import FIELDS, AccessRecord, parse_format

RECORD = AccessRecord(
    "30/Nov/2026:12:00:00 +0000", "192.0.2.7", b"GET", b'/a"b\n', b"HTTP/1.1", 200, 12, None,
    b"curl", 0.0123, 4243, 2, "named", True,
)  # fmt: skip


def test_combined() -> None:
    """
    As Apache and nginx write it.
    """
    assert parse_format("combined")(RECORD) == (
        '192.0.2.7 - - [30/Nov/2026:12:00:00 +0000] "GET /a\\"b\\x0a HTTP/1.1" 200 12 "-" "curl"'
    )


def test_json() -> None:
    """
    All fields, in one line.
    """
    line = parse_format("json")(RECORD)
    assert "\n" not in line
    plain = json.loads(line)
    assert plain.keys() == FIELDS.keys()
    assert (plain["target"], plain["status"], plain["bytes"]) == ('/a"b\n', 200, 12)
    assert (plain["duration"], plain["slot"], plain["referer"]) == (0.0123, 2, None)
    assert (plain["key"], plain["rehomed"]) == ("named", True)


def test_fields() -> None:
    """
    A text with fields in it; what is not known is a dash.
    """
    write = parse_format('{{{client}}} "{target}" {duration} {worker}/{slot} {key} {rehomed}é')
    assert write(RECORD) == '{192.0.2.7} "/a\\"b\\x0a" 0.012300 4243/2 named yes\\xe9'
    nothing = replace(RECORD, client="", duration_seconds=None, slot=-1, rehomed=False)
    assert parse_format("{client} {duration} {slot} {rehomed}")(nothing) == "- - - no"


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_nobody_ends_a_line(target: bytes, agent: bytes) -> None:
    """
    Whatever a client sends is one line of printable ASCII.
    """
    record = replace(RECORD, target=target, agent=agent)
    for form in ("combined", "json", "{target} {agent}"):
        line = parse_format(form)(record)
        assert line.isascii()
        assert line.isprintable()


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("{colour}", "there is no field {colour}; write one of time, client"),
        ("{status:>5}", "without anything behind the name"),
        ("{status!r}", "without anything behind the name"),
        ("{0}", "there is no field {0}"),
        ("{", "write braces in pairs"),
        ("apache", "expected combined, json, or fields in braces"),
        ("", "expected combined, json, or fields in braces"),
    ],
)
def test_what_is_no_format(form: str, says: str) -> None:
    """
    One line says what to write.
    """
    with pytest.raises(SettingError) as refused:
        Settings.read({"access_log": "-", "access_log_format": form})
    assert says in str(refused.value)


def test_without_a_log() -> None:
    """
    A format is nothing without a log to write it to.
    """
    with pytest.raises(SettingError, match="--access-log-format means nothing without"):
        Settings.read({"access_log_format": "json"})
