"""
What the primary and its fork server say to each other.

The channel is a pair of ``SOCK_SEQPACKET`` sockets, so a message is whole or not there (unix(7));
each is a JSON object.  The primary says first what to import (:func:`write_preload`), and is
answered once, when that is done.  Each order to fork a worker that follows has the descriptors of
:data:`WORKER_DESCRIPTORS` with it, and its answer is the worker's process id, or an error number.
"""

from __future__ import annotations

import json
import os
from typing import Any

from stickyd.control.commands import (
    BUS_DESCRIPTOR,
    CONTROL_DESCRIPTOR,
    FIGURES_DESCRIPTOR,
    HANDOFF_DESCRIPTOR,
    shown,
)
from stickyd.errors import ControlError

#: What makes a worker's command line that of the fork server.
FORK_SERVER = "--fork-server"

#: Where a worker finds what comes with an order, in this order: standard output and error, and
#: the ends that it shares with the primary.
WORKER_DESCRIPTORS = (
    1,
    2,
    HANDOFF_DESCRIPTOR,
    CONTROL_DESCRIPTOR,
    FIGURES_DESCRIPTOR,
    BUS_DESCRIPTOR,
)

#: The longest message: a socket's buffer takes no longer one by default
#: (``net.core.wmem_default``).
MOST_BYTES = 212_992

#: The largest process id (``PID_MAX_LIMIT``).
_MOST_PID = 1 << 22

#: The largest error number (``MAX_ERRNO``).
_MOST_ERRNO = 4095


def write_preload(settings: str, path: list[str]) -> bytes:
    """
    Say what to import.

    :param settings: what :meth:`stickyd.settings.Settings.to_json` gave.
    :param path: where modules are looked for beside the server's own ``sys.path``.
    """
    return json.dumps({"settings": settings, "path": path}).encode()


def read_preload(data: bytes) -> tuple[str, list[str]]:
    """
    Read :func:`write_preload`.

    :return: settings and path.
    """
    asked = json.loads(data)
    return asked["settings"], asked["path"]


def write_preloaded(refusal: str) -> bytes:
    """
    Answer that.

    :param refusal: why the server must not fork; empty if it can.
    """
    return json.dumps({"refusal": refusal}).encode()


def read_preloaded(data: bytes) -> str:
    """
    Read :func:`write_preloaded`.

    :raises ControlError: if it is none.
    """
    refusal = _read(data).get("refusal")
    if not isinstance(refusal, str):
        raise ControlError(f"{shown(data)}, where it was to say whether it can fork")
    return refusal


def write_order(place: str) -> bytes:
    """
    Order a worker.

    :param place: its slot or ``spare``, for ``ps``.
    """
    return json.dumps({"place": place}).encode()


def read_order(data: bytes) -> str:
    """
    Read :func:`write_order`.

    :return: the place.
    """
    place: str = json.loads(data)["place"]
    return place


def write_answer(number: int) -> bytes:
    """
    Answer an order.

    :param number: the process id; or if there is none, the error number below zero.
    """
    return json.dumps({"pid": number} if number > 0 else {"errno": -number}).encode()


def read_answer(data: bytes) -> int:
    """
    Read :func:`write_answer`.

    :return: the process id.
    :raises OSError: if the system could start no process.
    :raises ControlError: if it is no answer.
    """
    answer = _read(data)
    pid, number = answer.get("pid"), answer.get("errno")
    if type(number) is int and 0 < number <= _MOST_ERRNO:
        raise OSError(number, os.strerror(number))
    if type(pid) is not int or not 1 < pid <= _MOST_PID:
        raise ControlError(f"{shown(data)}, where it was to say which process it has forked")
    return pid


def _read(data: bytes) -> dict[str, Any]:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        message = None
    return message if isinstance(message, dict) else {}
