"""
The file of the dashboard's token.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from stickyd.admin.admin_token import token_in
from stickyd.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path


def test_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """
    And what stands in it stays.
    """
    path = tmp_path / "token"
    token = token_in(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(token) >= 32
    assert token_in(str(path)) == token


@pytest.mark.parametrize("text", ["", "short\n", "\n" * 40, "é" * 20, "with\ttab and more of it"])
def test_bad_token_is_refused(text: str, tmp_path: Path) -> None:
    """
    One that can be guessed, or that no browser can send, is none.
    """
    path = tmp_path / "token"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(OperatorError, match="is no token"):
        token_in(str(path))


def test_file_that_others_read_is_refused(tmp_path: Path) -> None:
    """
    What everybody knows opens to everybody.
    """
    path = tmp_path / "token"
    path.write_text("a token that is long enough")
    path.chmod(0o644)
    with pytest.raises(OperatorError, match=f"chmod 600 {path}"):
        token_in(str(path))


def test_file_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """
    The directory must be there, and a directory is no file.
    """
    for path in (tmp_path / "none" / "token", tmp_path):
        with pytest.raises(OperatorError, match=f"--admin-token-file {path}"):
            token_in(os.fspath(path))
