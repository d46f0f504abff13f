"""
What every thread, and every asyncio task, of this worker is doing, and which requests are under
way; told by a thread, so that a worker whose event loop is stuck tells it too.

It is asked at a socket in Linux's abstract namespace (unix(7)), which no directory has: its name
is the process id, and only the parent of this process is answered.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stickyd.control.commands import stacks_address
from stickyd.net.peer_process import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

#: Of a stack, and how many tasks are told of.
MOST_FRAMES = 60
MOST_TASKS = 200

_NOT_BEGUN = inspect.CORO_CREATED

#: Seconds that the primary may take to read an answer.
_PATIENCE_SECONDS = 5.0


class StacksDoor:
    """
    Answers the primary, in whichever thread calls :meth:`answer`.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: socket.socket | None = None
        self._look: Callable[[str], str] = lambda what: "{}"

    def open(self) -> int | None:
        """
        Listen.

        :return: the descriptor that is readable when somebody asks; None where the system has
            no such sockets.
        """
        if sys.platform != "linux":
            return None
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(stacks_address(os.getpid()))
            listener.listen(1)
        except OSError:
            listener.close()  # a child of a former process of this id may have the name
            return None
        listener.settimeout(_PATIENCE_SECONDS)
        self._listener = listener
        return listener.fileno()

    def know(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """
        Tell of the tasks of a loop, too.
        """
        self._loop = loop

    def know_requests(self, look: Callable[[str], str]) -> None:
        """
        Tell what is served, too.

        :param look: see :func:`stickyd.worker.looking.tell`; it is called in the thread of
            :meth:`answer`.
        """
        self._look = look

    def answer(self) -> None:
        """
        Tell whoever asks, if that is our parent.  Never fails.
        """
        with suppress(OSError):
            assert self._listener is not None
            asking, _ = self._listener.accept()
            with asking:
                if peer_of(asking).pid == os.getppid():
                    asking.settimeout(_PATIENCE_SECONDS)
                    asking.sendall(json.dumps(self._told()).encode())

    def _told(self) -> dict[str, Any]:
        try:
            tasks, count = self._tasks()
        except Exception as problem:  # noqa: BLE001 (another thread changes what is looked at)
            tasks, count = [], f"unknown: {problem!r:.100}"
        told = {"threads": threads(), "tasks": tasks, "task_count": count}
        for what in ("requests", "clients"):
            # As above: what is looked at may change just then.
            with suppress(Exception):
                told[what] = json.loads(self._look(what))
        return told

    def _tasks(self) -> tuple[list[dict[str, Any]], Any]:
        if self._loop is None:
            return [], 0
        found = sorted(asyncio.all_tasks(self._loop), key=lambda task: task.get_name())
        return [_task(task) for task in found[:MOST_TASKS]], len(found)


def threads() -> list[dict[str, Any]]:
    """
    Every thread but the one that asks, the main one first.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)
    order = sorted(frames, key=lambda ident: (ident != main, names.get(ident, ""), ident))
    return [
        {"name": names.get(ident, f"thread {ident}"), "stack": _stack(frames[ident])}
        for ident in order
    ]


def _stack(frame: FrameType | None) -> list[str]:
    return _lines(traceback.extract_stack(frame)[-MOST_FRAMES:])


def _lines(summary: list[traceback.FrameSummary]) -> list[str]:
    return [f"{at.filename}:{at.lineno} {at.name}: {at.line or ''}".rstrip() for at in summary]


def _task(task: asyncio.Task[Any]) -> dict[str, Any]:
    coroutine: Any = task.get_coro()
    if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == _NOT_BEGUN:
        coroutine = None  # its frame would be that of its definition
    stack: list[traceback.FrameSummary] = []
    while coroutine is not None and len(stack) < MOST_FRAMES:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            break
        stack += traceback.extract_stack(frame, limit=1)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return {
        "name": task.get_name(),
        "coroutine": getattr(task.get_coro(), "__qualname__", str(task.get_coro())),
        "stack": _lines(stack),
    }
