"""
The programs that the system tests run, beside Python: which are not there, and their packages.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

#: By program, the package of Debian that has it.
PACKAGES = {
    "cc": "gcc libc6-dev",
    "chromium": "chromium",
    "curl": "curl",
    "h2load": "nghttp2-client",
    "haproxy": "haproxy",
    "nginx": "nginx",
    "node": "nodejs",
    "npm": "npm",
    "promtool": "prometheus",
    "redis-cli": "redis-tools",
    "redis-sentinel": "redis-sentinel",
    "redis-server": "redis-server",
    "strace": "strace",
}

#: Where Debian has programs of administrators, which are not on everybody's path; and where
#: .ci/run puts one of which it wants no more than the file.
_ALSO = ("/usr/sbin", str(Path(__file__).resolve().parents[2] / ".programs"))


def find_program(name: str) -> str | None:
    """
    Find a program.

    :return: its path, or :obj:`None` if it is not installed.
    """
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_ALSO]))


def need_program(name: str) -> str:
    """
    Find a program, or fail the test with what to install.

    :return: its path.
    """
    found = find_program(name)
    if found is None:
        pytest.fail(complain_of([name]), pytrace=False)
    return found


def missing_programs() -> list[str]:
    """
    The programs that are not there.
    """
    return [name for name in PACKAGES if find_program(name) is None]


def complain_of(names: list[str]) -> str:
    """
    Say that programs are missing, and what to do.
    """
    packages = " ".join(PACKAGES[name] for name in names)
    return f"not installed: {', '.join(names)} (on Debian: apt-get install {packages})"
