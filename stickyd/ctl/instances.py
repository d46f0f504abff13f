"""
Which server is meant: the one that runs, if there is only one.
"""

from __future__ import annotations

import glob
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stickyd.ctl.asking import ask_again
from stickyd.ctl.errors import CtlError, Exit, NotDone
from stickyd.net.peer_process import peer_uid
from stickyd.operate.place import SYSTEM_DIRECTORY, answers, directories, pid_in, sockets_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Where root looks beside the directories of its own.
_OF_USERS = ("/run/user/*/stickyd", "/tmp/stickyd-[0-9]*")  # noqa: S108 (who listens is checked)


@dataclass(frozen=True)
class Instance:
    """
    A server that runs.

    :ivar path: of its control socket.
    :ivar pid: of its primary.
    """

    path: str
    pid: int


def running(environment: Mapping[str, str], uid: int) -> list[Instance]:
    """
    The servers that this user may ask, as far as their sockets are where they are looked for.
    """
    found = {}
    for directory in _places(environment, uid):
        for path in sockets_in(directory):
            pid = pid_in(path)
            if pid is not None and answers(path) and _is_trusted(path, uid):
                found[os.path.realpath(path)] = Instance(path, pid)
    return list(found.values())


def _places(environment: Mapping[str, str], uid: int) -> Iterator[str]:
    mine = list(directories(environment, uid))
    if environment.get("RUNTIME_DIRECTORY"):
        # Part of a unit, whose own server is meant.
        yield mine[0]
        return
    yield SYSTEM_DIRECTORY
    yield from mine
    # RuntimeDirectory= of a unit may have any name.
    yield from glob.glob("/run/*/")
    if uid == 0:
        for pattern in _OF_USERS:
            yield from glob.glob(pattern)


def _is_trusted(path: str, uid: int) -> bool:
    """
    Whether who listens is root, or ourselves: anybody may make files in some of the places.
    """
    if uid == 0:
        return True
    with socket.socket(socket.AF_UNIX) as trial:
        trial.setblocking(False)
        try:
            trial.connect(path)
        except BlockingIOError:
            return os.lstat(path).st_uid in (0, uid)
        except OSError:
            return False  # it is not for us to ask
        return peer_uid(trial) in (None, 0, uid)


def choose(instance: str, environment: Mapping[str, str], uid: int) -> str:
    """
    The control socket of the server that is meant.

    :param instance: the pid of its primary, or a port that it listens on; empty if there is
        only one.
    :raises CtlError: if there is none, or there are several.
    """
    found = running(environment, uid)
    if instance:
        meant = [each for each in found if instance == str(each.pid) or _listens(each, instance)]
    else:
        meant = found
    if len(meant) == 1:
        return meant[0].path
    listed = "".join(f"\n  {_shown(each)}" for each in meant or found)
    if len(meant) > 1:
        raise CtlError(
            f"{len(meant)} servers run here; say which by --instance PID (or a port that it"
            f" listens on) or by --control PATH:{listed}",
            Exit.AMBIGUOUS,
        )
    if instance and found:
        raise CtlError(f"no server has the pid or port {instance!r}; those that run:{listed}",
                       Exit.NO_SERVER)  # fmt: skip
    raise CtlError(
        "no server runs here that this user may ask; if one does, name the path of its --control"
        " by --control PATH",
        Exit.NO_SERVER,
    )


def _about(instance: Instance) -> tuple[list[str], str]:
    """
    Its endpoints, and its application, as far as it tells them.
    """
    try:
        told = ask_again(instance.path, "status", {})["server"]
        return [str(each) for each in told["listen"]], str(told["application"])
    except (CtlError, NotDone, KeyError, TypeError):
        return [], ""


def _listens(instance: Instance, port: str) -> bool:
    return any(port in endpoint.split(":") for endpoint in _about(instance)[0])


def _shown(instance: Instance) -> str:
    endpoints, application = _about(instance)
    return "  ".join((str(instance.pid), " ".join(endpoints), application, instance.path))
