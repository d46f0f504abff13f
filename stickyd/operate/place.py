"""
Where the control socket of an instance is, if nobody says where: found by ``stickyctl``
without an option.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from stickyd.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The values of ``--control`` that are no path.
AUTO = "auto"
OFF = "off"

#: Where root's are.
SYSTEM_DIRECTORY = "/run/stickyd"

#: Where the sockets of a user are who has no directory for such files.
_LAST_RESORT = "/tmp/stickyd-{uid}"  # noqa: S108 (a directory whose owner is checked)

_NAME = re.compile(r"stickyd-(\d{1,10})\.sock")

#: How many files of a directory are looked at.
_MOST_FILES = 1000


def name_of(pid: int) -> str:
    """
    The name of the socket of one process.
    """
    return f"stickyd-{pid}.sock"


def pid_in(path: str) -> int | None:
    """
    The process that a socket is named after; None if it is named otherwise.
    """
    named = _NAME.fullmatch(os.path.basename(path))
    return None if named is None else int(named[1])


def directories(environment: Mapping[str, str], uid: int) -> Iterator[str]:
    """
    Where a user's servers may put their sockets, the best place first.

    :param environment: ``RUNTIME_DIRECTORY`` is what systemd has made for this service
        (``RuntimeDirectory=``), ``XDG_RUNTIME_DIR`` for this user.
    """
    own = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if own:
        yield own
    if uid == 0:
        yield SYSTEM_DIRECTORY
    elif os.path.isabs(environment.get("XDG_RUNTIME_DIR", "")):
        yield os.path.join(environment["XDG_RUNTIME_DIR"], "stickyd")
    yield _LAST_RESORT.format(uid=uid)


def prepare(directory: str, uid: int, given: bool = False) -> None:
    """
    Make a directory, if there is none, in which nobody else can put sockets in our name.

    :param given: whether the service manager has made it, perhaps as a link to elsewhere.
    :raises OperatorError: if it cannot be had.
    """
    try:
        if not given:
            with suppress(FileExistsError):
                os.mkdir(directory, 0o755 if directory == SYSTEM_DIRECTORY else 0o700)
        status = os.stat(directory) if given else os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode):
            raise OperatorError(f"{directory}: it is no directory")
        if status.st_uid not in (0, uid) or status.st_mode & stat.S_IWOTH:
            raise OperatorError(f"{directory}: others may write there")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise OperatorError(f"{directory}: Permission denied")
    except OSError as problem:
        raise OperatorError(f"{directory}: {problem.strerror}") from None


def sockets_in(directory: str) -> list[str]:
    """
    The paths of the sockets of a directory; none if it cannot be read.
    """
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_MOST_FILES), strict=False)]
    except OSError:
        return []
    return [os.path.join(directory, name) for name in sorted(names) if _NAME.fullmatch(name)]


def remove_stale(directory: str) -> None:
    """
    Remove the sockets of processes that are dead: nobody listens on them, and there is no
    process of that id which might be about to.
    """
    for path in sockets_in(directory):
        pid = pid_in(path)
        if pid is not None and not answers(path) and not _lives(pid):
            with suppress(OSError):
                os.unlink(path)


def answers(path: str) -> bool:
    """
    Whether somebody listens on a socket, however busy, as far as we may know.
    """
    with socket.socket(socket.AF_UNIX) as trial:
        trial.setblocking(False)
        try:
            trial.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
