"""
The tests of others, out of the source distributions of the releases that are installed.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

#: They are kept beside the packages that they belong to.
KEPT = Path(sys.prefix) / "sdists"


def unpacked(name: str, into: Path) -> Path:
    """
    Unpack the tests of a package, which its wheel has not.

    :param name: the package's.
    :return: the directory that has its ``tests`` in it.
    """
    release = version(name)
    archive = next(KEPT.glob(f"{name}-{release}.tar.gz"), None)
    if archive is None:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--disable-pip-version-check", "--no-binary", ":all:", "--dest", str(KEPT)),
                f"{name}=={release}",
            ],
            check=True,
            timeout=300,
        )
        archive = KEPT / f"{name}-{release}.tar.gz"
    with tarfile.open(archive) as members:
        for member in members:
            if member.isreg() and "/tests/" in member.name and ".." not in member.name:
                members.extract(member, into)
    return into / f"{name}-{release}"
