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


def unpacked(name: str, into: Path, release: str = "") -> Path:
    """
    Unpack the tests of a package, which its wheel has not.

    :param name: the package's.
    :param release: of a package that is not installed.
    :return: the directory that has its ``tests`` in it.
    """
    release = release or version(name)
    stem = f"{name.replace('-', '_')}-{release}"
    archive = next(KEPT.glob(f"{stem}.tar.gz"), None)
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
        archive = KEPT / f"{stem}.tar.gz"
    with tarfile.open(archive) as members:
        for member in members:
            if member.isreg() and "/tests/" in member.name and ".." not in member.name:
                members.extract(member, into)
    return into / stem
