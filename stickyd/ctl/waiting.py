"""
Waiting for what ends the connection to the server: its end, and its new code.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from stickyd.ctl.asking import ask
from stickyd.ctl.errors import ConnectionEnded, CtlError, Exit, NotDone

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two looks.
_LOOK_SECONDS = 0.1

#: Seconds that the process may take to exit when it serves nobody any more, and that new code
#: may take until it answers.
_END_SECONDS = 30.0


def wait_for_end(pid: int) -> dict[str, Any]:
    """
    Wait until a process has ended that is about to.

    :raises CtlError: if it does not.
    """
    deadline = time.monotonic() + _END_SECONDS
    while _lives(pid):
        if time.monotonic() >= deadline:
            raise CtlError(f"the server serves nobody, but {pid} has not ended", Exit.NO_ANSWER)
        time.sleep(_LOOK_SECONDS)
    return {"stopped": pid}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[:1] != [b"Z"]
    except PermissionError:
        return True
    except (ProcessLookupError, FileNotFoundError):
        return os.path.isdir(f"/proc/{pid}")


def wait_for_new_code(
    path: str, former_run: str, wait: bool, say: Callable[[str], object]
) -> dict[str, Any]:
    """
    Wait until another run of the program answers, and has fresh workers.

    :param former_run: what the former one has called itself.
    :param wait: whether to wait until former workers have left, too.
    :raises CtlError: if none answers.
    """
    server = _new_server(path, former_run)
    say("the new code runs; its workers are being replaced")
    told = ""
    while True:
        status = ask(path, "status", {})
        change = status["change"]
        last = status["last_change"]
        if change is None and last is not None:
            problems = last["problems"]
            if problems:
                raise NotDone("; ".join(problems))
            leaving = [
                each["pid"]
                for slot in status["slots"]
                for each in slot["workers"]
                if each["part"] == "leaving"
            ]
            if not (wait and leaving):
                return {"version": server["version"], "pid": server["pid"]}
            line = f"workers that have not left: {', '.join(map(str, leaving))}"
            if line != told:
                say(line)
                told = line
        time.sleep(_LOOK_SECONDS)


def _new_server(path: str, former_run: str) -> dict[str, Any]:
    deadline = time.monotonic() + _END_SECONDS
    while True:
        try:
            server: dict[str, Any] = ask(path, "status", {})["server"]
            if server["run"] != former_run:
                return server
        except ConnectionEnded:
            pass
        if time.monotonic() >= deadline:
            raise CtlError(f"{path}: the new code does not answer", Exit.NO_ANSWER)
        time.sleep(_LOOK_SECONDS)
