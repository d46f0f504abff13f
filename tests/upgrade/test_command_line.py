"""
Tests of the command line of what this process becomes.
"""

from __future__ import annotations

import pytest

from stickyd.upgrade.command_line import shown


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["python", "-n", "--workers=4"], "python -n --workers=4"),
        (["--bus", "redis://:s3cret@h:1/0"], "--bus redis://***@h:1/0"),
        (["--sessions=rediss://u:s3/cret@h?wait=1"], "--sessions=rediss://***@h?wait=1"),
        (
            ["--bus=redis+sentinel://a/main?sentinel_password=s3cret&prefix=x:"],
            "--bus=redis+sentinel://a/main?sentinel_password=***&prefix=x:",
        ),
        (["--listen", "tcp:0:interface=127.0.0.1"], "--listen tcp:0:interface=127.0.0.1"),
    ],
)
def test_log_shows_no_password(words: list[str], text: str) -> None:
    """
    Of the stores that the options name.
    """
    assert shown(words) == text
