"""
``stickyctl`` beside a server that replaces its code while it is asked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from stickyd.ctl.errors import Exit
from stickyd.ctl.main import main
from tests.ctl.test_asking import answering

if TYPE_CHECKING:
    from pathlib import Path


def test_events_go_on_where_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    None is missed, and none is told twice.
    """
    path = str(tmp_path / "control")
    lines = (
        b'{"event":{"id":4,"event":"x.y","text":"four"}}\n{"event":{"id":5,"text":"five"}}\n',
        b"",
        b'{"event":{"id":6,"event":"x.y","text":"six"}}\n{"answer":{"events":1}}\n',
    )
    with answering(path, *lines) as questions:
        assert main(["--control", path, "events", "--follow"]) == Exit.DONE
    asked = [json.loads(question)["arguments"] for question in questions]
    assert [each.get("after") for each in asked] == [None, 5, 5]
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == [
        "four",
        "five",
        "six",
    ]


def test_what_changes_something_is_not_ordered_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Who looks asks again; who has ordered something is told that there was no answer.
    """
    path = str(tmp_path / "control")
    with answering(path, b"", b'{"answer":{"rows":[]}}\n'):
        assert main(["--control", path, "--json", "status"]) == Exit.DONE
    (tmp_path / "control").unlink()
    with answering(path, b'{"step":{"text":"one"}}\n'):
        assert main(["--control", path, "resize", "3"]) == Exit.NO_ANSWER
    assert "the server closes without an answer; see its log" in capsys.readouterr().err
