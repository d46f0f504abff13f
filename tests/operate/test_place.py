"""
Where control sockets are, if nobody says where.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stickyd.ctl.errors import CtlError, Exit
from stickyd.ctl.instances import choose, running
from stickyd.errors import OperatorError
from stickyd.operate.place import directories, name_of, pid_in, prepare, remove_stale

if TYPE_CHECKING:
    from pathlib import Path


def test_best_place_comes_first() -> None:
    """
    What the service manager has made, then what is usual for the user.
    """
    assert list(directories({"RUNTIME_DIRECTORY": "/run/a:/run/b"}, 33)) == [
        "/run/a",
        "/tmp/stickyd-33",
    ]
    assert list(directories({"XDG_RUNTIME_DIR": "/run/user/33"}, 33)) == [
        "/run/user/33/stickyd",
        "/tmp/stickyd-33",
    ]
    assert list(directories({"XDG_RUNTIME_DIR": "elsewhere"}, 33)) == ["/tmp/stickyd-33"]
    assert list(directories({"XDG_RUNTIME_DIR": "/run/user/0"}, 0)) == [
        "/run/stickyd",
        "/tmp/stickyd-0",
    ]


def test_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    """
    Nobody else can put a socket there in our name.
    """
    made = tmp_path / "made"
    prepare(str(made), os.geteuid())
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    prepare(str(made), os.geteuid())


def test_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """
    One that others may write to, a link, and what is none: each is one line.  A link is fine
    where the service manager has made it, as for ``DynamicUser=``.
    """
    mine, link, file = tmp_path / "mine", tmp_path / "link", tmp_path / "file"
    mine.mkdir(0o700)
    link.symlink_to(mine)
    file.touch()
    for path, said in ((link, "it is no directory"), (file, "it is no directory")):
        with pytest.raises(OperatorError, match=f"^{path}: {said}$"):
            prepare(str(path), os.geteuid())
    prepare(str(link), os.geteuid(), given=True)
    us = os.geteuid()
    if us == 0:
        os.chown(mine, 65534, 65534)  # root's own would do for anybody
    with pytest.raises(OperatorError, match="others may write there"):
        prepare(str(mine), us if us == 0 else us + 1)
    mine.chmod(0o777)
    if us == 0:
        os.chown(mine, 0, 0)
    with pytest.raises(OperatorError, match="others may write there"):
        prepare(str(mine), os.geteuid())
    with pytest.raises(OperatorError, match="No such file or directory"):
        prepare(str(tmp_path / "no" / "where"), os.geteuid())


def test_only_sockets_of_the_dead_are_removed(tmp_path: Path) -> None:
    """
    Neither one on which somebody listens, nor one of a process that lives and is about to,
    nor what is named otherwise.
    """
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    dead, mine, other = name_of(process.pid), name_of(os.getpid()), "other.sock"
    for name in (dead, mine, other):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(tmp_path / name))
    remove_stale(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([mine, other])
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(tmp_path / dead))
        alive.listen()
        remove_stale(str(tmp_path))
        assert (tmp_path / dead).exists()
        environment = {"RUNTIME_DIRECTORY": str(tmp_path)}
        assert [each.pid for each in running(environment, os.geteuid())] == [process.pid]
        assert choose("", environment, os.geteuid()) == str(tmp_path / dead)
    with pytest.raises(CtlError, match="no server runs here") as none:
        choose("", environment, os.geteuid())
    assert none.value.code is Exit.NO_SERVER
    assert pid_in(str(tmp_path / dead)) == process.pid
    assert pid_in(str(tmp_path / other)) is None
