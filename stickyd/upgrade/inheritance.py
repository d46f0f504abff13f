"""
What a primary tells the new code, by the environment: the child that tries it, and the program
that this process becomes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stickyd.errors import OperatorError
from stickyd.net.descriptors import keep_from_children

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from stickyd.settings import Settings

#: In the environment of a program that goes on with a former one's work: the descriptor of
#: what that has left.
INHERIT = "STICKYD_INHERIT"

#: Has a process check everything as if it were to start, and exit: JSON, see
#: :class:`Preflight`.
PREFLIGHT = "STICKYD_PREFLIGHT"

#: Of the state.  Code that reads another version refuses an upgrade when it is tried, and so
#: before it does any harm.  Version 1 told the trial only a list of endpoints.
VERSION = 2


def take_inherited(environment: MutableMapping[str, str]) -> dict[str, Any] | None:
    """
    The state that a former self left, if there is one; it can be taken once.

    :param environment: ``os.environ``; the variable is removed from it.
    :raises OperatorError: if this code does not read that version of it.  It was refused in
        the trial, so somebody has replaced the code once more since.
    """
    number = environment.pop(INHERIT, None)
    if number is None:
        return None
    # The exec has left them open for us; no process that we start may have them.
    keep_from_children()
    with os.fdopen(int(number)) as file:
        file.seek(0)
        state: dict[str, Any] = json.load(file)
    _require_version(state.get("version"))
    return state


@dataclass(frozen=True)
class Preflight:
    """
    What the child is told that only tries the code.

    :ivar endpoints: what its parent listens on, and holds.
    :ivar answer: the descriptor that it answers on, if all is well.
    """

    endpoints: list[str]
    answer: int

    def text(self) -> str:
        """
        For the environment.
        """
        told = {"version": VERSION, "endpoints": self.endpoints, "answer": self.answer}
        return json.dumps(told)

    def end_with_parent(self) -> None:
        """
        End this process, and so the child that tries the application for it, as soon as
        nobody can hear its answer any more.
        """
        looks = select.poll()
        # A copy, since the answer closes the other: a closed one is an event as well.
        looks.register(os.dup(self.answer), 0)

        def wait() -> None:
            looks.poll()
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=wait, name="parent", daemon=True).start()

    def accept(self, settings: Settings) -> None:
        """
        Answer that this code, with these settings, can go on.
        """
        answer = {"version": VERSION, "settings": settings.to_json()}
        with os.fdopen(self.answer, "w") as file:
            json.dump(answer, file)


def take_preflight(environment: MutableMapping[str, str]) -> Preflight | None:
    """
    What the parent says, if this process only tries the code.

    :param environment: ``os.environ``; the variable is removed from it.
    :raises OperatorError: if this code does not read the parent's state.
    """
    text = environment.pop(PREFLIGHT, None)
    if text is None:
        return None
    told = json.loads(text)
    _require_version(told.get("version") if isinstance(told, dict) else 1)
    os.set_inheritable(told["answer"], False)
    return Preflight(told["endpoints"], told["answer"])


def accepted_settings(answer: bytes) -> str:
    """
    The settings that the child has tried, from what it has answered.

    :raises OperatorError: if it does not say that it reads our state.
    """
    try:
        told = json.loads(answer)
        _require_version(told["version"])
        settings = told["settings"]
    except (ValueError, KeyError, TypeError):
        raise OperatorError(
            "the new code does not say that it can go on with what this one does; restart"
            " instead of upgrading"
        ) from None
    return str(settings)


def _require_version(version: object) -> None:
    if version != VERSION:
        raise OperatorError(
            f"the state of the running primary is of version {version}, and the new code reads"
            f" version {VERSION}; restart instead of upgrading"
        )
