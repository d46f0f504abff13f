"""
Where large bodies of requests lie.
"""

from __future__ import annotations

import tempfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent

from stickyd.serve.http.head import RequestError
from stickyd.serve.http.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path


@given(st.lists(st.binary(max_size=40)))
def test_body_is_whole_wherever_it_lies(pieces: list[bytes]) -> None:
    """
    Whatever the pieces, the body is what they are together, and is in a file if it is large.
    """
    spool = Spool(memory_bytes=50)
    content: Any = BytesIO()
    for piece in pieces:
        content = spool.append(content, piece)
    whole = b"".join(pieces)
    assert spool.files == (len(whole) > 50)
    content.seek(0)
    assert content.read() == whole
    content.close()
    content.close()
    assert spool.files == 0


def test_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    A body that finds no room is refused with 503, and the log says where and why.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    spool = Spool(memory_bytes=1)
    with capturedLogs() as events, pytest.raises(RequestError) as caught:
        spool.append(BytesIO(), b"ab")
    assert caught.value.status == 503
    assert "missing" in str(formatEvent(events[-1]))
    assert spool.files == 0
