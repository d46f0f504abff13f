"""
What the kernel copies for those who send files.
"""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """
    Note what the kernel has copied.
    """
    sizes: list[int] = []
    copy = os.sendfile

    def note(out: int, file: int, offset: int, count: int) -> int:
        size = copy(out, file, offset, count)
        sizes.append(size)
        return size

    monkeypatch.setattr(os, "sendfile", note)
    return sizes
