"""
The directory that the files of the slots are in.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from stickyd.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = re.compile(r"slot-(?:0|[1-9][0-9]{0,4})\.db")

#: File systems of other machines: their locks do not hold between machines, or at all.
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs")

#: File systems that end with the machine's.
_VOLATILE = ("tmpfs", "ramfs")

_LEAST_FREE_BYTES = 256 * 1024 * 1024


def prepare_directory(directory: Path, shown: str) -> None:
    """
    Make it, and see that files can be made there.

    :param shown: the setting.
    :raises SettingError: if not.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, probe = tempfile.mkstemp(prefix="probe-", dir=directory)
        os.close(descriptor)
        os.unlink(probe)
    except OSError as problem:
        raise SettingError(
            f"{shown}: {directory}: {problem.strerror}; name a directory that the workers' user"
            " may write to"
        ) from None


def slot_files(directory: Path) -> list[Path]:
    """
    The files of slots that there are.
    """
    return sorted(path for path in directory.iterdir() if _FILE.fullmatch(path.name))


def warnings_of(directory: Path, shown: str) -> list[str]:
    """
    Look for what an operator should know.
    """
    return list(_warnings_of(directory, shown))


def _warnings_of(directory: Path, shown: str) -> Iterator[str]:
    kind = _file_system_of(directory)
    if kind in _REMOTE:
        yield (
            f"{shown}: {directory} is on {kind}, where SQLite can lose sessions; name a"
            " directory on a disk of this machine"
        )
    if kind in _VOLATILE:
        yield f"{shown}: {directory} is in memory ({kind}): no session outlives this machine"
    state = os.statvfs(directory)
    free = state.f_bavail * state.f_frsize
    if free < _LEAST_FREE_BYTES:
        yield f"{shown}: {directory} has {free // 2**20} MiB left, which sessions may soon fill"
    if directory.stat().st_mode & 0o077:
        yield (
            f"{shown}: other users of this machine may look into {directory}; chmod 700 {directory}"
        )


def _file_system_of(directory: Path) -> str:
    """
    The kind of file system, see proc(5); nothing where that cannot be known.
    """
    try:
        lines = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    where = str(directory.resolve())
    best, kind = "", ""
    for line in lines:
        _, point, found, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind
