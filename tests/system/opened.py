"""
A view of the file system in which every user can read what the server runs from.

Root's Python may lie in a directory that is closed to others, such as /root; then a program
that gives up root cannot start one more interpreter.  In a mount namespace of its own the
way there is open, and everything else is as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system.server import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Puts a fresh directory in the place of a closed one ($1), and in it what is needed of it
#: (the arguments up to --), by way of a directory of ours ($0); then becomes the rest.
_OPEN = """
set -e
hold=$0 closed=$1
shift
mount -t tmpfs -o mode=755 none "$hold"
mkdir "$hold/aside"
mount --rbind "$closed" "$hold/aside"
mount -t tmpfs -o mode=755 none "$closed"
while [ "$1" != -- ]; do
    mkdir -p "$1"
    mount --rbind "$hold/aside${1#"$closed"}" "$1"
    shift
done
shift
exec "$@"
"""


def opened(hold: Path) -> list[str]:
    """
    The command that runs another one with the interpreter, its packages and this checkout
    open to all users, and becomes it.  Root alone can run it, if it is not empty.

    :param hold: an empty directory, for the way there.
    """
    needed = sorted({Path(path).resolve() for path in (sys.base_prefix, sys.prefix, ROOT)})
    command: list[str] = []
    for number, closed in enumerate(sorted({top for path in needed for top in _closed(path)})):
        within = [str(path) for path in needed if closed in path.parents]
        place = hold / str(number)
        place.mkdir()
        command += ["sh", "-c", _OPEN, str(place), str(closed), *within, "--"]
    return command and ["unshare", "--mount", *command]


def _closed(path: Path) -> Iterator[Path]:
    """
    The topmost directory on the way to a path that others may not pass, if there is one.
    """
    for parent in reversed(path.parents):
        if not parent.stat().st_mode & 0o001:
            yield parent
            return


def ids_of(pid: int) -> tuple[set[int], set[int], set[int]]:
    """
    The user ids of a process, its group ids, and its supplementary groups.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {line.split(":")[0]: line.split()[1:] for line in lines}
    users, groups, others = (set(map(int, fields[name])) for name in ("Uid", "Gid", "Groups"))
    return users, groups, others
